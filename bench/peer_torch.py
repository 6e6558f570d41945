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


nn, F = torch.nn, torch.nn.functional


class Residual(nn.Module):
    def __init__(self, inner, shortcut=None):
        super().__init__()
        self.inner, self.shortcut = inner, shortcut or nn.Identity()

    def forward(self, x):
        return self.shortcut(x) + self.inner(x)


class Attention(nn.Module):
    """Causal, by the function that PyTorch has for it from 2 on."""

    def __init__(self, positions, size, heads):
        super().__init__()
        self.heads, self.scale = heads, (size // heads) ** -0.5
        self.inner, self.outer = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.register_buffer("ahead", torch.ones(positions, positions, dtype=torch.bool).triu(1))

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.inner(x).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            a = (q @ k.transpose(-2, -1)) * self.scale
            y = a.masked_fill(self.ahead, -float("inf")).softmax(-1) @ v
        return self.outer(y.transpose(1, 2).reshape(b, t, c))


class Embedding(nn.Module):
    def __init__(self, codes, positions, size):
        super().__init__()
        self.codes = nn.Embedding(codes, size)
        self.places = nn.Parameter(torch.zeros(positions, size))

    def forward(self, x):
        return self.codes(x) + self.places


def transformer(codes=96, positions=64, size=128, heads=4):
    blocks = []
    for _ in range(4):
        blocks += [Residual(nn.Sequential(nn.LayerNorm(size), Attention(positions, size, heads))),
                   Residual(nn.Sequential(nn.LayerNorm(size), nn.Linear(size, 4 * size), nn.GELU(),
                                          nn.Linear(4 * size, size)))]
    return nn.Sequential(Embedding(codes, positions, size), *blocks, nn.LayerNorm(size),
                         nn.Linear(size, codes))


def resnet_20():
    def conv(i, o, kernel, stride=1):
        return nn.Sequential(nn.Conv2d(i, o, kernel, stride, kernel // 2, bias=False),
                             nn.BatchNorm2d(o))

    layers, before = [conv(3, 16, 3), nn.ReLU()], 16
    for size in (16, 32, 64):
        for _ in range(3):
            narrows = size != before
            layers += [Residual(nn.Sequential(conv(before, size, 3, 1 + narrows), nn.ReLU(),
                                              conv(size, size, 3)),
                                conv(before, size, 1, 2) if narrows else None), nn.ReLU()]
            before = size
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def model_of(name):
    if name == "char-transformer":
        return transformer()
    if name == "resnet-20":
        return resnet_20()
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
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}.get(peer.OPTIMIZERS.get(name))
    if kind:
        return kind(params, lr=1e-4, **extra)
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
    if name == "char-transformer":
        codes = torch.randint(0, classes, (n, shape[0] + 1))
        x, y = codes[:, :-1].contiguous(), codes[:, 1:].contiguous()
    else:
        x, y = torch.randn(n, *shape), torch.randint(0, classes, (n,))
    if tuned and len(shape) == 3:
        model = model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    model.train(not infer)
    optimizer = optimizer_of(name, model.parameters(), tuned)
    loss = torch.nn.CrossEntropyLoss()

    def forward_loss(a, b):
        return loss(model(a).reshape(-1, classes), b.reshape(-1))

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
