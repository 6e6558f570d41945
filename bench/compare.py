#!/usr/bin/python3
"""dml beside PyTorch: the same model, batch, optimiser and number of threads, data in memory.

    make compare            or
    bench/compare.py [--dmlctl PATH] [--models DIR] [--python PYTHON]… [--case MODEL:BATCH]…
                     [--threads N]… [--level LEVEL]… [--rounds N] [--seconds S] [--infer]

Every round measures each contender once, in turn, so that whatever else the machine does strikes
all of them alike. What is compared are samples per second: of CPU time on one thread, where other
programs hardly count; of wall time on more. A ratio is the median of the rounds' ratios, with the
least and the greatest behind it. Contenders: dml at each level of vector instructions that this
machine has, PyTorch at its defaults, and PyTorch "tuned" (AVX-512 where there is, denormals
flushed, gradients set to None, the foreach optimiser, channels-last for convolutions), once for
every --python whose torch can be imported. The result is a Markdown table.

Each window of PyTorch draws its batches as slices of one tensor, without shuffling or copying;
dml's windows include both. Where torch is missing, dml's own figures are printed alone.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

WINDOWS = 9
CASES = ["cifar-cnn:4", "cifar-cnn:32", "cifar-cnn:128", "sdss-mlp:32", "sdss-mlp:128",
         "sdss-mlp:1024", "mobilenetv2:32", "mobilenetv2:128"]
OPTIMIZERS = {"sdss-mlp": "adam", "mobilenetv2": "adam"}  # the others: SGD, momentum 0.9


# ---- the other side: this file again, run by a python that has torch --------------------------

def torch_model(torch, name):
    nn = torch.nn
    if name == "mobilenetv2":
        import torchvision
        return torchvision.models.mobilenet_v2(num_classes=10), (3, 32, 32), 10
    if name == "sdss-mlp":
        return nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                             nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3)), (6,), 3
    channels, side, flat = {"cifar-cnn": (3, 32, 400), "grey-cnn": (1, 28, 256)}[name]
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(flat, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, 10)), (channels, side, side), 10


def torch_optimizer(torch, name, params, tuned):
    extra = {"foreach": True} if tuned else {}
    if OPTIMIZERS.get(name) == "adam":
        return torch.optim.Adam(params, lr=1e-4, **extra)
    return torch.optim.SGD(params, lr=1e-4, momentum=0.9, **extra)


def torch_side(name, batch, threads, tuned, infer):
    """Answers every line of seconds with a line of JSON."""
    import torch
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    if tuned:
        torch.set_flush_denormal(True)
    model, shape, classes = torch_model(torch, name)
    n = max(2, int(2 ** 21 / batch / max(1, int(torch.tensor(shape).prod())))) * batch
    n = min(n, 32 * batch)
    x, y = torch.randn(n, *shape), torch.randint(0, classes, (n,))
    if tuned and len(shape) == 3:
        model = model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    model.train(not infer)
    optimizer = torch_optimizer(torch, name, model.parameters(), tuned)
    loss = torch.nn.CrossEntropyLoss()

    def step(at):
        if infer:
            with torch.no_grad():
                model(x[at:at + batch])
            return
        if tuned:
            optimizer.zero_grad(set_to_none=True)
        else:
            optimizer.zero_grad()
        loss(model(x[at:at + batch]), y[at:at + batch]).backward()
        optimizer.step()

    for i in range(3):
        step(i * batch % n)
    print(json.dumps({"version": torch.__version__}), flush=True)
    for line in sys.stdin:
        rates, cpu = [], []
        for _ in range(WINDOWS):
            began, began_cpu, done = time.monotonic(), time.process_time(), 0
            while time.monotonic() - began < float(line) / WINDOWS:
                step(done % n)
                done += batch
            rates.append(done / (time.monotonic() - began))
            cpu.append(done / (time.process_time() - began_cpu))
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"wall": statistics.median(rates), "best": max(rates),
                          "cpu": max(cpu), "rss": rss}), flush=True)


# ---- contenders -------------------------------------------------------------------------------

class Torch:
    def __init__(self, python, args, name, batch, threads, tuned):
        env = dict(os.environ)
        if tuned and "avx512f" in cpu_flags():
            env["ATEN_CPU_CAPABILITY"] = "avx512"
        self.process = subprocess.Popen(
            [python, os.path.abspath(__file__), "--torch-side", name, str(batch), str(threads),
             "tuned" if tuned else "default", "infer" if args.infer else "train"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
            stderr=subprocess.DEVNULL)
        hello = self.process.stdout.readline()
        self.seconds = args.seconds
        self.title = None
        if hello:
            self.title = "torch " + json.loads(hello)["version"].split("a")[0].split("+")[0]
            self.title += " tuned" if tuned else ""

    def measure(self):
        self.process.stdin.write("%g\n" % self.seconds)
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Dml:
    def __init__(self, args, name, batch, threads, level):
        self.command = [args.dmlctl, "bench", "--json", "--model-dir", args.models, "--model", name,
                        "--batch", str(batch), "--threads", str(threads),
                        "--optimizer", OPTIMIZERS.get(name, "sgd"), "--seconds", str(args.seconds)]
        if args.infer:
            self.command.append("--infer")
        self.env = dict(os.environ, DML_KERNEL=level)
        core = {"base": "Nehalem", "avx2": "Haswell"}.get(level)
        if core:
            self.env["OPENBLAS_CORETYPE"] = core
        self.title = "dml " + level

    def measure(self):
        out = subprocess.run(self.command, env=self.env, stdout=subprocess.PIPE, check=True)
        b = json.loads(out.stdout)
        return {"wall": b["samples_per_s"], "best": b["best_samples_per_s"],
                "cpu": 1e6 / b["cpu_us_per_sample"], "rss": b["peak_rss_bytes"]}

    def close(self):
        pass


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


def round_of(contenders):
    return [c.measure() for c in contenders]


def human(x):
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if x >= limit:
            return "%.3g %s" % (x / limit if unit == "M" else x / 1e3, unit)
    return "%.0f" % x


def ratio(rounds, i, k, what):
    values = [r[i][what] / r[k][what] for r in rounds]
    return "%.1f [%.1f…%.1f]" % (statistics.median(values), min(values), max(values))


def compare(args, name, batch, threads):
    """Prints the rows of one case."""
    dml = [Dml(args, name, batch, threads, level) for level in args.level]
    others = [Torch(python, args, name, batch, threads, tuned)
              for python in args.python for tuned in (False, True)]
    others = [t for t in others if t.title]
    contenders = dml + others
    rounds = [round_of(contenders) for _ in range(args.rounds)]
    what = "cpu" if threads == 1 else "best"
    for i, d in enumerate(dml):
        cells = [name, str(batch), str(threads), d.title,
                 human(statistics.median(r[i][what] for r in rounds)),
                 "%.0f" % (max(r[i]["rss"] for r in rounds) / 2**20)]
        for k, t in enumerate(others, len(dml)):
            cells.append("%s: %s, **%s**, %.0f MB" % (
                t.title, human(statistics.median(r[k][what] for r in rounds)),
                ratio(rounds, i, k, what), max(r[k]["rss"] for r in rounds) / 2**20))
        print("| " + " | ".join(cells) + " |", flush=True)
    for c in contenders:
        c.close()


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


def main():
    if sys.argv[1:2] == ["--torch-side"]:
        name, batch, threads, tuned, infer = sys.argv[2:]
        torch_side(name, int(batch), int(threads), tuned == "tuned", infer == "infer")
        return
    p = argparse.ArgumentParser(description="dml beside PyTorch, as a Markdown table")
    p.add_argument("--dmlctl", default="dmlctl")
    p.add_argument("--models", default="/usr/share/dml/models", help="folder of .model files")
    p.add_argument("--python", action="append", help="a python with torch; may be repeated")
    p.add_argument("--case", action="append", metavar="MODEL:BATCH")
    p.add_argument("--threads", action="append", type=int)
    p.add_argument("--level", action="append", choices=["base", "avx2", "avx512", "neon"])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    p.add_argument("--infer", action="store_true", help="forward alone")
    args = p.parse_args()
    args.python = args.python or ["/usr/bin/python3"]
    args.level = args.level or levels()
    print("%s, %s; %s; %d rounds of %g s\n" % (
        time.strftime("%Y-%m-%d"), machine(), "inference" if args.infer else "training",
        args.rounds, args.seconds))
    columns = ["model", "batch", "threads", "dml", "samples/s", "MB"] + \
        ["PyTorch: samples/s, **ratio** [least…greatest], memory"] * (2 * len(args.python))
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for threads in args.threads or [1]:
        for case in args.case or CASES:
            name, batch = case.rsplit(":", 1)
            if os.path.exists(os.path.join(args.models, name + ".model")):
                compare(args, name, int(batch), threads)


if __name__ == "__main__":
    main()
