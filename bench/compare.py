#!/usr/bin/python3
"""dml beside PyTorch and Keras: the same model, batch, optimiser and number of threads, data in
memory.

    make compare            or
    bench/compare.py [--dmlctl PATH] [--models DIR] [--python PYTHON]… [--case MODEL:BATCH]…
                     [--threads N]… [--level LEVEL]… [--rounds N] [--seconds S] [--infer]
    make compare-all        the whole table into compare.md: every case, 1 and 2 threads, training
                            and inference; at most 25 minutes, with --quick 10 for fewer cases

Contenders: dml at each level of vector instructions that this machine has; and for every --python
PyTorch and Keras, as far as it can import them, each at its defaults and in what other ways there
are (peer_torch.py and peer_keras.py name them). On more than one thread the others are measured on
one as well, and the best of all their ways is told: a second thread does not always help.

Every round measures each contender once, in turn, so that whatever else the machine does strikes
all of them alike. What is compared are samples per second: of CPU time on one thread, where other
programs hardly count; of wall time (the best window) on more. A ratio is the median of the rounds'
ratios, with the least and the greatest behind it. Warming up and compiling is not counted, neither
as time nor as memory.

Each window of the others draws its batches as slices of one tensor, without shuffling or copying;
dml's windows include both. Where nothing can be imported, dml's own figures are printed alone.
"""
import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # not beside the source
from peer import OPTIMIZERS

CASES = ["cifar-cnn:4", "cifar-cnn:32", "cifar-cnn:128", "sdss-mlp:32", "sdss-mlp:128",
         "sdss-mlp:1024", "mobilenetv2:32", "mobilenetv2:128", "resnet-20:32",
         "char-transformer:16"]
QUICK = ["cifar-cnn:32", "sdss-mlp:128", "mobilenetv2:32"]
QUICK_KINDS = ["default", "tuned", "compiled", "graph"]
READY_S, QUICK_READY_S = 150, 45  # to build and to compile a model; who needs more is left out


def cpu_flags():
    try:
        with open("/proc/cpuinfo") as f:
            for line in f:
                if line.startswith(("flags", "Features")):
                    return line.split()
    except OSError:
        pass
    return []


def levels():
    flags = cpu_flags()
    if "sse2" not in flags:
        return ["neon"]
    return ["base"] + ["avx2"] * ("avx2" in flags and "fma" in flags) + \
        ["avx512"] * ("avx512dq" in flags and "avx512bw" in flags and "avx512vl" in flags)


def machine():
    name = os.uname().machine
    try:
        with open("/proc/cpuinfo") as f:
            for line in f:
                if line.startswith(("model name", "Model")):
                    name = line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "%s, %d CPUs, load %.1f" % (name, os.cpu_count(), os.getloadavg()[0])


# ---- contenders -------------------------------------------------------------------------------

class Framework:
    """A server of peer.py: one framework of one python."""

    def __init__(self, python, script, folder, number):
        here = os.path.dirname(os.path.abspath(__file__))
        self.path = os.path.join(folder, str(number))
        env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
        if "avx512f" in cpu_flags():
            env["ATEN_CPU_CAPABILITY"] = "avx512"  # PyTorch 1 would not use it by itself
        self.imported = None
        self.process = subprocess.Popen(
            [python, os.path.join(here, script), self.path], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def is_there(self):
        about = self.process.stdout.readline()
        if about:
            about = json.loads(about)
            self.title, self.kinds = about["title"], about["kinds"]
        return bool(about)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Peer:
    def __init__(self, framework, kind, job):
        self.framework, self.kind, self.threads = framework, kind, job["threads"]
        self.error = None
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(framework.path)
        self.stream = self.socket.makefile("rw")
        self.ready_s = job["ready_s"]
        self.ask(json.dumps(dict(job, kind=kind)))

    def ask(self, line):
        self.stream.write(line + "\n")
        self.stream.flush()

    def wait(self):
        hello = json.loads(self.stream.readline() or "null") or \
            {"error": "it was not ready after %d s, or died" % self.ready_s}
        self.error = hello.get("error")
        self.params = hello.get("params")
        self.framework.imported = hello.get("imported", self.framework.imported)

    def measure(self, seconds):
        self.ask("%g" % seconds)
        return json.loads(self.stream.readline())

    def close(self):
        self.stream.close()
        self.socket.close()


class Dml:
    def __init__(self, args, job, level):
        name = job["model"]
        self.threads, self.level = job["threads"], level
        self.command = [args.dmlctl, "bench", "--json", "--model-dir", args.models, "--model", name,
                        "--batch", str(job["batch"]), "--threads", str(job["threads"]),
                        "--optimizer", OPTIMIZERS.get(name, "sgd"), "--seconds"]
        self.infer = ["--infer"] * job["infer"]
        self.env = dict(os.environ, DML_KERNEL=level)
        core = {"base": "Nehalem", "avx2": "Haswell"}.get(level)
        if core:
            self.env["OPENBLAS_CORETYPE"] = core

    def measure(self, seconds):
        out = subprocess.run(self.command + [str(seconds)] + self.infer, env=self.env,
                             stdout=subprocess.PIPE, check=True)
        b = json.loads(out.stdout)
        return {"wall": b["samples_per_s"], "best": b["best_samples_per_s"],
                "cpu": 1e6 / b["cpu_us_per_sample"], "rss": b["peak_rss_bytes"]}


# ---- one case ---------------------------------------------------------------------------------

class Case:
    """What was measured of one model and batch, forward or both ways."""

    def __init__(self, args, frameworks, name, batch, infer):
        self.name, self.batch, self.infer = name, batch, infer
        ready_s = QUICK_READY_S if args.quick else READY_S
        jobs = [{"model": name, "batch": batch, "infer": infer, "threads": t, "ready_s": ready_s}
                for t in args.threads]
        self.dml = [Dml(args, job, level) for job in jobs for level in args.level]
        peer_jobs = [dict(jobs[0], threads=t) for t in sorted({1, *args.threads})]
        peers = []
        for job in peer_jobs:
            wanted = [(f, kind) for f in frameworks for kind in f.kinds
                      if not args.quick or kind in QUICK_KINDS]
            # Warmed up on cores of their own: who spins for a core that is taken is never ready.
            at_once = max(1, (os.cpu_count() or 1) // job["threads"])
            for at in range(0, len(wanted), at_once):
                some = [Peer(f, kind, job) for f, kind in wanted[at:at + at_once]]
                for p in some:
                    p.wait()
                peers += some
        self.peers = [p for p in peers if not p.error]
        self.failed = [p for p in peers if p.error]
        contenders = self.dml + self.peers
        self.rounds = [[c.measure(args.seconds) for c in contenders] for _ in range(args.rounds)]
        for p in peers:
            p.close()

    def values(self, i, what):
        return [r[i][what] for r in self.rounds]

    def ratios(self, i, k, what):
        return [r[i][what] / r[k][what] for r in self.rounds]

    def find(self, framework, threads, kinds):
        """The fastest of the framework's ways on at most so many threads; its place or None."""
        what = "cpu" if threads == 1 else "best"
        places = [i for i, p in enumerate(self.peers, len(self.dml))
                  if p.framework is framework and p.kind in kinds and p.threads <= threads and
                  (p.threads == threads or len(kinds) > 1)]
        return max(places, default=None, key=lambda i: statistics.median(self.values(i, what)))


def human(x):
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if x >= limit:
            return "%.3g %s" % (x / limit if unit == "M" else x / 1e3, unit)
    return "%.0f" % x


def times(x):
    return "%.0f" % x if x >= 100 else "%.3g" % x if x >= 10 else "%.2g" % x


def megabytes(values):
    return "%.0f MB" % (max(values) / 2**20)


def cell(case, i, k, threads, with_name):
    if k is None:
        return "–"
    what = "cpu" if threads == 1 else "best"
    p, r = case.peers[k - len(case.dml)], case.ratios(i, k, what)
    name = ""
    if with_name:
        name = "%s%s: " % (p.kind, "" if threads == 1 else ", %d thread%s" % (
            p.threads, "s" * (p.threads > 1)))
    return "%s%s, **%s** [%s…%s], %s" % (
        name, human(statistics.median(case.values(k, what))), times(statistics.median(r)),
        times(min(r)), times(max(r)), megabytes(case.values(k, "rss")))


def table(cases, frameworks, threads):
    what = "cpu" if threads == 1 else "best"
    columns = ["model", "batch", "dml", "samples/s", "memory"]
    for f in frameworks:
        columns += ["%s, defaults" % f.title, "%s, at its best" % f.title]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for case in cases:
        for i, d in enumerate(case.dml):
            if d.threads != threads:
                continue
            cells = [case.name, str(case.batch), d.level,
                     human(statistics.median(case.values(i, what))),
                     megabytes(case.values(i, "rss"))]
            for f in frameworks:
                cells.append(cell(case, i, case.find(f, threads, ["default"]), threads, False))
                cells.append(cell(case, i, case.find(f, threads, f.kinds), threads, True))
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def closest(cases, frameworks, args):
    """Where each framework at its best comes nearest to dml's widest level."""
    lines = []
    for f in frameworks:
        found = []
        for case in cases:
            for i, d in enumerate(case.dml):
                k = case.find(f, d.threads, f.kinds)
                if d.level == args.level[-1] and k is not None:
                    what = "cpu" if d.threads == 1 else "best"
                    found.append((statistics.median(case.ratios(i, k, what)),
                                  "%s of %s at batch %d, %d thread%s" % (
                                      "inference" if case.infer else "training", case.name,
                                      case.batch, d.threads, "s" * (d.threads > 1))))
        if found:
            lines.append("%s at its best comes nearest to dml %s in %s: %s; of %d ratios %d are "
                         "above 1." % (f.title, args.level[-1], min(found)[1],
                                       times(min(found)[0]), len(found),
                                       sum(r > 1.0 for r, _ in found)))
    return lines


def notes(cases, frameworks):
    lines = ["Memory of %s: %.0f MB are there once it is imported." % (
        f.title, f.imported / 2**20) for f in frameworks if f.imported]
    for case in cases:
        if len({p.params for p in case.peers}) > 1:
            lines.append("%s has not the same number of parameters everywhere: %s." % (
                case.name, ", ".join(sorted({"%s %d" % (p.framework.title, p.params)
                                             for p in case.peers}))))
        lines += ["Not measured: %s of %s at batch %d by %s, %s, %d thread%s: %s." % (
            "inference" if case.infer else "training", case.name, case.batch, p.framework.title,
            p.kind, p.threads, "s" * (p.threads > 1), p.error) for p in case.failed]
    return lines


def report(args, cases, frameworks, missing):
    lines = ["%s, %s; %d rounds of %g s\n" % (
        time.strftime("%Y-%m-%d"), machine(), args.rounds, args.seconds)]
    for infer in (False, True):
        some = [c for c in cases if c.infer == infer]
        for threads in args.threads if some else ():
            lines += ["**%s, %d thread%s**\n" % ("Inference" if infer else "Training", threads,
                                                 "s" * (threads > 1))]
            lines += table(some, frameworks, threads) + [""]
    lines += [line + "\n" for line in closest(cases, frameworks, args) + notes(cases, frameworks)]
    lines += ["Not measured, for want of time: %s.\n" % ", ".join(missing)] * bool(missing)
    with open(args.output, "w") if args.output else os.fdopen(1, "w", closefd=False) as f:
        f.write("\n".join(lines))


# ---- all of it --------------------------------------------------------------------------------

def start(args, folder):
    found = [Framework(python, script, folder, i) for i, (python, script) in enumerate(
        (p, s) for p in args.python for s in ("peer_torch.py", "peer_keras.py"))]
    return [f for f in found if f.is_there()]


def measure(args, frameworks):
    """Cases, and the names of those for which there was no time."""
    began, longest, cases, missing = time.monotonic(), 0.0, [], []
    for infer in [False, True] if args.all else [args.infer]:
        for case in args.case:
            name, batch = case.rsplit(":", 1)
            if not os.path.exists(os.path.join(args.models, name + ".model")):
                continue
            now = time.monotonic()
            if now - began + longest > 60 * args.minutes:
                missing.append("%s of %s" % ("inference" if infer else "training", case))
                continue
            cases.append(Case(args, frameworks, name, int(batch), infer))
            longest = max(longest, time.monotonic() - now)
            print("%5.0f s: %s of %s" % (time.monotonic() - began,
                                         "inference" if infer else "training", case),
                  file=sys.stderr)
    return cases, missing


def options():
    p = argparse.ArgumentParser(description="dml beside PyTorch and Keras, as a Markdown table")
    p.add_argument("--dmlctl", default="dmlctl")
    p.add_argument("--models", default="/usr/share/dml/models", help="folder of .model files")
    p.add_argument("--python", action="append",
                   help="a python with torch and torchvision, or with keras; may be repeated")
    p.add_argument("--case", action="append", metavar="MODEL:BATCH")
    p.add_argument("--threads", action="append", type=int)
    p.add_argument("--level", action="append", choices=["base", "avx2", "avx512", "neon"])
    p.add_argument("--rounds", type=int)
    p.add_argument("--seconds", type=float, help="of each measurement")
    p.add_argument("--infer", action="store_true", help="forward alone")
    p.add_argument("--all", action="store_true",
                   help="training and inference, on 1 and 2 threads, in at most 25 minutes")
    p.add_argument("--quick", action="store_true", help="fewer cases and ways, at most 10 minutes")
    p.add_argument("--minutes", type=float, help="no case is begun that would likely end later")
    p.add_argument("--output", help="a file for the table")
    args = p.parse_args()
    args.python = args.python or ["/usr/bin/python3"]
    args.level = args.level or levels()
    args.case = args.case or (QUICK if args.quick else CASES)
    args.threads = sorted(set(args.threads or ([1, 2] if args.all else [1])))
    args.rounds = args.rounds or (2 if args.quick else 3 if args.all else 5)
    args.seconds = args.seconds or (0.4 if args.quick else 0.6 if args.all else 1.0)
    args.minutes = args.minutes or (10 if args.quick else 25 if args.all else 1e6)
    return args


def main():
    args = options()
    with tempfile.TemporaryDirectory() as folder:
        frameworks = start(args, folder)
        try:
            cases, missing = measure(args, frameworks)
        finally:
            for f in frameworks:
                f.close()
    report(args, cases, frameworks, missing)


if __name__ == "__main__":
    main()
