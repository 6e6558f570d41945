"""What the other sides of compare.py share: a server that has its framework imported once and
answers every connection from a process of its own, so that each contender has its own peak memory
and its own number of threads without paying for the import again.

On a connection: one line of JSON with the job; back comes a line about the contender (or an error);
then for every line of seconds a line of measurements, until the other side hangs up.
"""
import json
import os
import resource
import select
import signal
import socket
import statistics
import sys
import time

WINDOWS = 9
OPTIMIZERS = {  # the others: SGD, momentum 0.9
    "sdss-mlp": "adam", "mobilenetv2": "adam", "char-transformer": "adamw"}
SHAPES = {  # C, H, W or the length of a row; classes
    "cifar-cnn": ((3, 32, 32), 10), "grey-cnn": ((1, 28, 28), 10), "sdss-mlp": ((6,), 3),
    "mobilenetv2": ((3, 32, 32), 10), "resnet-20": ((3, 32, 32), 10),
    "char-transformer": ((64,), 96)}  # codes; the next one is asked for at every place
# MobileNetV2 as torchvision has it: expansion, channels, how often, stride.
MOBILENET = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
             (6, 160, 3, 2), (6, 320, 1, 1)]


def n_samples(batch, shape):
    """As many as make 8 MB, between 2 and 32 batches."""
    floats = 1
    for side in shape:
        floats *= side
    return min(32, max(2, int(2**21 / batch / floats))) * batch


def memory():
    """Bytes: resident now, and at most since start (or since the last reset)."""
    found = {}
    try:
        with open("/proc/self/status") as f:
            for line in f:
                if line.startswith(("VmRSS", "VmHWM")):
                    found[line[:5]] = int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found.get("VmRSS", peak), found.get("VmHWM", peak)


def forget_peak():
    """What compiling took is not what training takes."""
    try:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        pass


def measure(step, n, batch, seconds):
    rates, cpu, began = [], [], time.monotonic()
    for _ in range(WINDOWS):
        start, start_cpu, done = time.monotonic(), time.process_time(), 0
        while done == 0 or time.monotonic() - start < seconds / WINDOWS:
            step(done % n)
            done += batch
        rates.append(done / (time.monotonic() - start))
        cpu.append(done / (time.process_time() - start_cpu))
        if len(rates) >= 3 and time.monotonic() - began > seconds:
            break
    return {"wall": statistics.median(rates), "best": max(rates), "cpu": max(cpu),
            "rss": memory()[1]}


def talk(connection, make):
    stream = connection.makefile("rw")
    imported = memory()[0]
    try:
        job = json.loads(stream.readline())
        signal.alarm(job["ready_s"])  # to compile may take very long
        step, n, hello = make(job)
        for i in range(3):
            step(i * job["batch"] % n)
        signal.alarm(0)
        forget_peak()
        hello["imported"] = imported
    except Exception as e:  # whatever a framework throws: the table says so
        hello = {"error": "%s: %s" % (type(e).__name__, str(e).split("\n")[0][:200])}
    stream.write(json.dumps(hello) + "\n")
    stream.flush()
    for line in stream if "error" not in hello else ():
        stream.write(json.dumps(measure(step, n, job["batch"], float(line))) + "\n")
        stream.flush()


def serve(path, make, about):
    """Until standard input ends."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print(json.dumps(about), flush=True)
    while True:
        if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
            return
        connection = listener.accept()[0]
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # compilers are waited for
            listener.close()
            talk(connection, make)
            os._exit(0)
        connection.close()
