#!/usr/bin/python3
"""A cluster on a network of its own: real daemons, each in a network namespace, links of a given
rate between them. For the tables of the paradigms.

    bench/lan.py scaling [--rate MBIT]… [--nodes N]… [--paradigm P]… [--cores SHARE] …
    bench/lan.py bytes     bytes per step and node, measured, beside what the algorithm must move
    bench/lan.py overlap   step time of the ring with and without overlap, beside max(c, T) and c + T
    bench/lan.py run FILE --workers N [--rate MBIT]        any test case; prints its JSON

Common options: --build DIR (where the programs are), --models DIR, --results DIR (kept).
Wants root, ip and tc (iproute2). Every node is a namespace with one address on a bridge; tbf holds
its link to the rate in both directions. Times are those the run reports; each node is held to
--cores of a core by the test case, so that several fit on one machine. Tables are Markdown.
"""
import argparse
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BASE = """[testcase]
name = bench
nodes = {nodes}
[data]
dataset = {dataset}
train-samples = {samples}
test-samples = 1000
{data}
[model]
name = {model}
[train]
rounds = {rounds}
batch-size = {batch}
learning-rate = 0.01
{train}
[parallel]
paradigm = {paradigm}
{parallel}
"""


def sh(*args, check=True):
    return subprocess.run(args, check=check, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)


class Lan:
    """A bridge in a namespace of its own, and n + 1 namespaces on it: 0 is the master's."""

    def __init__(self, n, mbit):
        self.tag = f"dml{os.getpid()}"
        self.n = n
        self.hub = f"{self.tag}-hub"
        self.made = []
        try:
            self.add(self.hub)
            self.ip(self.hub, "link", "add", "br0", "type", "bridge")
            self.ip(self.hub, "link", "set", "br0", "up")
            for i in range(n + 1):
                self.plug(i, mbit)
        except BaseException:
            self.close()
            raise

    def add(self, name):
        sh("ip", "netns", "add", name)
        self.made.append(name)
        self.ip(name, "link", "set", "lo", "up")

    def ip(self, name, *args):
        sh("ip", "-n", name, *args)

    def name(self, i):
        return f"{self.tag}-{i}"

    def address(self, i):
        return f"10.177.0.{i + 1}"

    def plug(self, i, mbit):
        name = self.name(i)
        self.add(name)
        sh("ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"p{i}",
           "netns", self.hub)
        self.ip(name, "addr", "add", f"{self.address(i)}/24", "dev", "eth0")
        self.ip(name, "link", "set", "eth0", "up")
        self.ip(self.hub, "link", "set", f"p{i}", "master", "br0", "up")
        if mbit:
            for ns, dev in ((name, "eth0"), (self.hub, f"p{i}")):
                burst = max(32, int(mbit * 1.25))  # kB: 10 ms of the rate
                sh("tc", "-n", ns, "qdisc", "add", "dev", dev, "root", "tbf", "rate",
                   f"{mbit}mbit", "burst", f"{burst}kb", "latency", "50ms")

    def close(self):
        for name in reversed(self.made):
            sh("ip", "netns", "del", name, check=False)
        self.made = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Cluster:
    """A master and n workers on a Lan."""

    def __init__(self, args, lan):
        self.args, self.lan, self.processes = args, lan, []
        self.work = tempfile.mkdtemp(prefix="dml-bench.")
        self.socket = f"{self.work}/control.sock"
        open(f"{self.work}/empty.conf", "w").close()
        common = ["--config", f"{self.work}/empty.conf", "--model-dir", args.models,
                  "--plugin-dir", args.plugins, "--log", "text"]
        self.start(0, "dmlmasterd", *common, "--listen", f"{lan.address(0)}:7077",
                   "--control-socket", self.socket, "--testcase", "",
                   "--results-dir", f"{self.work}/results")
        for i in range(1, lan.n + 1):
            self.start(i, "dmlworkerd", *common, "--master", f"{lan.address(0)}:7077",
                       "--id", f"node-{i}", "--cache-dir", f"{self.work}/cache-{i}")
        os.makedirs(f"{self.work}/results", exist_ok=True)

    def start(self, i, program, *args):
        log = open(f"{self.work}/{program}-{i}.log", "w")
        env = dict(os.environ, OPENBLAS_NUM_THREADS="1", GRPC_DNS_RESOLVER="native")
        self.processes.append(subprocess.Popen(
            ["ip", "netns", "exec", self.lan.name(i), f"{self.args.build}/{program}", *args],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env))

    def run(self, text, patience=600):
        """The test case's JSON. Fails with what the programs said."""
        path = f"{self.work}/bench.conf"
        with open(path, "w") as f:
            f.write(text)
        for _ in range(100):
            if os.path.exists(self.socket):
                break
            time.sleep(0.1)
        out = subprocess.run([f"{self.args.build}/dmlctl", "run", "--quiet", "--json", "--master",
                              f"unix:{self.socket}", path], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, timeout=patience)
        if out.returncode:
            raise RuntimeError(f"dmlctl run ended with {out.returncode}: {out.stderr.strip()}\n"
                               f"test case:\n{text}")
        return json.loads(out.stdout)

    def close(self):
        for p in self.processes:
            p.send_signal(signal.SIGTERM)
        for p in self.processes:
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        if self.args.results:
            os.makedirs(self.args.results, exist_ok=True)
            shutil.copytree(self.work, self.args.results, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("*.sock", "cache-*"))
        shutil.rmtree(self.work, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---- tables -------------------------------------------------------------------------------------

def case_text(args, paradigm, nodes, parallel="", train="", batch=None):
    return BASE.format(nodes=nodes, dataset=args.dataset, data="\n".join(args.data or []),
                       samples=args.samples, model=args.model, rounds=args.rounds,
                       batch=batch or args.batch, paradigm=paradigm, parallel=parallel, train=train)


def nodes_list(args, counts):
    return " ".join(f"{n}:{n * args.cores:g}" for n in counts)


def workers_of(case):
    """Per worker, summed over the rounds of the first run: rank → sums."""
    sums = {}
    for rnd in case["runs"][0]["rounds"]:
        for w in rnd["workers"]:
            s = sums.setdefault(w["rank"], dict.fromkeys(
                ("work_us", "idle_us", "sending_us", "sent_bytes", "received_bytes", "samples"), 0))
            for key in s:
                s[key] += w.get(key) or 0
    return sums


def steps_of(args, case, replicas):
    """Steps of the run: epochs × minibatches of the largest share."""
    share = -(-args.samples // replicas)
    return args.rounds * -(-share // args.batch)


def table(*columns):
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))


def row(*cells):
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def head(args, what):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                if line.startswith("model name")), "unknown")
    print(f"{what}. {time.strftime('%Y-%m-%d')}, {cpu}, {os.cpu_count()} CPUs, load "
          f"{os.getloadavg()[0]:.1f}; {args.model} on {args.samples} samples of {args.dataset}, "
          f"minibatch {args.batch}, {args.rounds} epochs, {args.cores:g} of a core per node\n")


def rate_name(mbit):
    return f"{mbit} Mbit/s" if mbit else "not limited"


# Which nodes a paradigm is measured on, and its keys at so many nodes.
PARADIGMS = {
    "federated": ([1, 2, 3, 4], lambda n: ""),
    "allreduce": ([1, 2, 3, 4], lambda n: ""),
    "server": ([1, 2, 3, 4], lambda n: "staleness = 0"),
    "server, staleness 4": ([1, 2, 3, 4], lambda n: "staleness = 4"),
    "pipeline": ([1, 2, 3, 4], lambda n: "micro-batches = 4"),
    "ring": ([1, 2, 3, 4], lambda n: "chunks = 2\nmicro-batches = 4"),
    "hybrid": ([4], lambda n: "replicas = 2\nstages = 2\nmicro-batches = 4"),
}


def run_one(args, cluster, name, nodes, keys):
    text = case_text(args, name.split(",")[0], nodes_list(args, [nodes]), keys)
    return cluster.run(text)[0]


def scaling(args):
    head(args, "Scaling")
    table("link", "paradigm", "nodes", "T s", "samples/s", "S", "W %", "accuracy %")
    for mbit in args.rate or [1000, 100]:
        with Lan(max(args.nodes), mbit) as lan, Cluster(args, lan) as cluster:
            for name, (counts, keys) in PARADIGMS.items():
                if args.paradigm and name.split(",")[0] not in args.paradigm:
                    continue
                base = None
                for n in [c for c in counts if c in args.nodes]:
                    try:
                        case = run_one(args, cluster, name, n, keys(n))
                    except RuntimeError as e:
                        row(rate_name(mbit), name, n, str(e).splitlines()[0], "", "", "", "")
                        continue
                    base = base or (n, case["t_s"])
                    speedup = f"{base[1] / case['t_s']:.2f}" if base[0] == 1 else ""
                    row(rate_name(mbit), name, n, f"{case['t_s']:.2f}",
                        f"{args.samples * args.rounds / case['t_s']:.0f}", speedup,
                        f"{100 * case['w_share']:.1f}", f"{100 * case['accuracy']:.1f}")


def crossing(args, case, nodes):
    """What activations and their gradients make a node send in a step, on average: of each cut the
    numbers that cross it, there and back."""
    text = sh(f"{args.build}/dmlctl", "models", "--model-dir", args.models, args.model).stdout
    shapes = dict(re.findall(r"^ *(\d+) .*? (\d+(?:×\d+)*) → ", text, re.M))
    floats = sum(math.prod(map(int, shapes[k].split("×"))) for k in case["cut"].split())
    return 2 * floats * args.batch / nodes


def show_bytes(args):
    head(args, "Bytes per step and node")
    table("paradigm", "nodes", "sent", "received", "by the algorithm, each way", "master, both ways")
    n = max(args.nodes)
    with Lan(n, 0) as lan, Cluster(args, lan) as cluster:
        for name, keys, floats in (
                ("allreduce", "", lambda p: 2 * (n - 1) / n * p),
                ("server", "staleness = 0", lambda p: p),
                ("server", "staleness = 4", lambda p: p),
                ("server", "staleness = 0\nsignificance = 0.01", None),
                ("server", "staleness = 0\nsignificance = 0.1", None),
                ("pipeline", "micro-batches = 4", None),
                ("ring", "chunks = 2\nmicro-batches = 4", None)):
            case = run_one(args, cluster, name, n, keys)
            replicas = 1 if name in ("pipeline", "ring") else n
            steps = steps_of(args, case, replicas)
            sums = workers_of(case).values()
            sent = sum(s["sent_bytes"] for s in sums) / len(sums) / steps
            received = sum(s["received_bytes"] for s in sums) / len(sums) / steps
            rounds = case["runs"][0]["rounds"]
            master = sum(r["sent_bytes"] + r["received_bytes"] for r in rounds) / steps
            if replicas == 1:
                moved = crossing(args, case, n)
            else:
                moved = floats(args.params) if floats and args.params else None
            analytic = f"{4 * moved:.0f}" if moved else "–"
            row(f"{name}: {keys}".replace("\n", ", ").rstrip(": "), n, f"{sent:.0f}",
                f"{received:.0f}", analytic, f"{master:.0f}")


def overlap(args):
    head(args, "Overlap of transfer and compute in the ring")
    table("link", "nodes", "c ms", "T ms", "max(c, T)", "c + T", "with overlap ms",
          "without overlap ms")
    n = max(args.nodes)
    for mbit in args.rate or [1000, 100, 50, 20, 10]:
        with Lan(n, mbit) as lan, Cluster(args, lan) as cluster:
            ms = {}
            for key in ("yes", "no"):
                case = run_one(args, cluster, "ring", n, f"chunks = {args.chunks}\nmicro-batches = "
                               f"{args.micro_batches}\noverlap = {key}")
                steps = steps_of(args, case, 1)
                sums = list(workers_of(case).values())
                ms[key] = 1e3 * case["t_s"] / steps
                if key == "yes":
                    c = max(s["work_us"] for s in sums) / steps / 1e3
                    most = max(max(s["sent_bytes"], s["received_bytes"]) for s in sums) / steps
                    t = most * 8 / (mbit * 1e6) * 1e3 if mbit else 0.0
            row(rate_name(mbit), n, f"{c:.1f}", f"{t:.1f}", f"{max(c, t):.1f}", f"{c + t:.1f}",
                f"{ms['yes']:.1f}", f"{ms['no']:.1f}")


def run_file(args):
    with open(args.file) as f:
        text = f.read()
    with Lan(args.workers, (args.rate or [0])[0]) as lan, Cluster(args, lan) as cluster:
        print(json.dumps(cluster.run(text, patience=args.patience), indent=2))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0],
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    p.add_argument("what", choices=["scaling", "bytes", "overlap", "run"])
    p.add_argument("file", nargs="?", help="run: the test case")
    p.add_argument("--build", default=".", help="folder with dmlmasterd, dmlworkerd and dmlctl")
    p.add_argument("--models", default=f"{top}/etc/models", help="folder of .model files")
    p.add_argument("--results", help="keep logs and results here")
    p.add_argument("--rate", type=int, action="append", metavar="MBIT", help="of every link; 0: no limit")
    p.add_argument("--nodes", type=int, action="append", help="so many workers (default: 1 to 4)")
    p.add_argument("--paradigm", action="append", choices=sorted({k.split(",")[0] for k in PARADIGMS}))
    p.add_argument("--cores", type=float, default=0.2, help="share of a core for each node")
    p.add_argument("--model", default="grey-cnn")
    p.add_argument("--params", type=int, default=44426, help="parameters of the model, for `bytes`")
    p.add_argument("--dataset", default="fashion-mnist")
    p.add_argument("--data", action="append", metavar="LINE", help="another line of [data]")
    p.add_argument("--samples", type=int, default=6000)
    p.add_argument("--rounds", type=int, default=2, help="epochs")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--chunks", type=int, default=2)
    p.add_argument("--micro-batches", type=int, default=4)
    p.add_argument("--workers", type=int, default=3, help="run: so many workers")
    p.add_argument("--patience", type=int, default=3600, help="run: seconds")
    args = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that namespaces go, too
    args.nodes = args.nodes or [1, 2, 3, 4]
    args.build = os.path.abspath(args.build)
    args.plugins = f"{args.build}/src/plugins/.libs"
    if os.geteuid() != 0:
        sys.exit("lan.py: network namespaces want root")
    for program in ("ip", "tc", f"{args.build}/dmlmasterd"):
        if not shutil.which(program):
            sys.exit(f"lan.py: {program} is not there")
    if args.what == "run" and not args.file:
        sys.exit("lan.py: run which test case?")
    try:
        {"scaling": scaling, "bytes": show_bytes, "overlap": overlap, "run": run_file}[args.what](args)
    except (RuntimeError, subprocess.CalledProcessError) as e:
        sys.exit(f"lan.py: {e}{getattr(e, 'stderr', '') or ''}")


if __name__ == "__main__":
    main()
