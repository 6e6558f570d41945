"""PyTorch's side of compare.py, run by a python that has torch; see peer.py.

Kinds: default; tuned (denormals flushed, gradients set to None, the foreach optimiser,
channels-last for convolutions); compiled (the same by torch.compile, from PyTorch 2 on). Batches
are slices of one tensor, without shuffling or copying.
"""
import ctypes
import os
import sys

import peer
import torch
import torchvision


def model_of(name):
    nn = torch.nn
    if name == "mobilenetv2":
        return torchvision.models.mobilenet_v2(num_classes=10)
    if name == "sdss-mlp":
        return nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                             nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))
    channels, flat = {"cifar-cnn": (3, 400), "grey-cnn": (1, 256)}[name]
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(flat, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def optimizer_of(name, params, tuned):
    extra = {"foreach": True} if tuned else {}
    if peer.OPTIMIZERS.get(name) == "adam":
        return torch.optim.Adam(params, lr=1e-4, **extra)
    return torch.optim.SGD(params, lr=1e-4, momentum=0.9, **extra)


def limit_threads(n):
    """Debian's PyTorch multiplies by OpenBLAS, which has threads of its own, and these wait for work
    by spinning: unless it is told, a run of one thread takes two threads' CPU time."""
    torch.set_num_threads(n)
    try:
        blas = ctypes.CDLL("libopenblas.so.0", mode=os.RTLD_NOLOAD)
    except OSError:
        return  # not in this process
    blas.openblas_set_num_threads(n)


def make(job):
    name, batch, infer = job["model"], job["batch"], job["infer"]
    tuned, compiled = job["kind"] != "default", job["kind"] == "compiled"
    limit_threads(job["threads"])
    torch.manual_seed(1)
    if tuned:
        torch.set_flush_denormal(True)
    model, (shape, classes) = model_of(name), peer.SHAPES[name]
    n_params = sum(p.numel() for p in model.parameters())
    n = peer.n_samples(batch, shape)
    x, y = torch.randn(n, *shape), torch.randint(0, classes, (n,))
    if tuned and len(shape) == 3:
        model = model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    model.train(not infer)
    optimizer = optimizer_of(name, model.parameters(), tuned)
    loss = torch.nn.CrossEntropyLoss()

    def forward_loss(a, b):
        return loss(model(a), b)

    if compiled:
        forward_loss, model = torch.compile(forward_loss), torch.compile(model)

    def step(at):
        if infer:
            with torch.no_grad():
                model(x[at:at + batch])
            return
        if tuned:
            optimizer.zero_grad(set_to_none=True)
        else:
            optimizer.zero_grad()
        forward_loss(x[at:at + batch], y[at:at + batch]).backward()
        optimizer.step()

    return step, n, {"params": n_params}


KINDS = ["default", "tuned"] + ["compiled"] * hasattr(torch, "compile")
peer.serve(sys.argv[1], make, {
    "title": "torch " + torch.__version__.split("a")[0].split("+")[0], "kinds": KINDS})
