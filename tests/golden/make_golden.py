#!/usr/bin/python3
"""Losses, gradients and parameters of some models, computed by PyTorch in double precision.

Run by hand (Debian: apt install python3-torch python3-torchvision), never by the build:
    tests/golden/make_golden.py tests/golden
Weights and inputs come from a formula that tests/unit/nn_ref.h computes too, rounded to float32,
so only results are stored. test_golden.c compares.
"""
import math
import sys

import torch

torch.set_num_threads(1)
STEPS = 6
SAMPLES = 40


def lcg(n, bound, seed):
    out = []
    for _ in range(n):
        seed = (seed * 1664525 + 1013904223) % 2**32
        out.append(bound * (2.0 * ((seed >> 8) / 16777216.0) - 1.0))
    return torch.tensor(out, dtype=torch.float32).double()


def cifar_cnn():
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def sdss_mlp():
    nn = torch.nn
    return nn.Sequential(
        nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))


def fill(model):
    """Layer i of those with weights: one stream over weights and biases, as the flat block is."""
    i = 0
    for layer in model:
        if not list(layer.parameters()):
            continue
        n = sum(p.numel() for p in layer.parameters())
        fan_in = layer.weight[0].numel()
        values = lcg(n, 1.0 / math.sqrt(fan_in), 100 + i)
        at = 0
        for p in layer.parameters():
            p.data = values[at:at + p.numel()].reshape(p.shape).clone()
            at += p.numel()
        i += 1


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


def pick(v):
    return v[::max(1, v.numel() // SAMPLES)][:SAMPLES]


def row(f, key, values):
    f.write(key + ": " + " ".join("%.9g" % float(v) for v in values) + "\n")


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=5e-4),
    "sgd-plain": lambda p: torch.optim.SGD(p, lr=0.05),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=1e-2),
}


def golden(path, make, shape, classes, batch):
    with open(path, "w") as f:
        f.write("# by make_golden.py, torch %s, float64\n" % torch.__version__.split("+")[0])
        x = lcg(batch * math.prod(shape), 1.0, 7).reshape(batch, *shape)
        labels = torch.tensor([(i * 7 + 3) % classes for i in range(batch)])
        loss = torch.nn.CrossEntropyLoss()
        for name, optimizer in OPTIMIZERS.items():
            model = make().double()
            fill(model)
            opt = optimizer(model.parameters())
            losses = []
            for step in range(STEPS):
                opt.zero_grad()
                value = loss(model(x), labels)
                value.backward()
                if step == 0 and name == "sgd":
                    row(f, "logits", model(x).detach().reshape(-1)[:20])
                    row(f, "gradient-norms", [p.grad.norm() for p in model.parameters()])
                    row(f, "gradient", pick(flat(p.grad for p in model.parameters())))
                losses.append(value.item())
                opt.step()
            params = flat(p.data for p in model.parameters())
            row(f, "loss " + name, losses)
            row(f, "parameters " + name, pick(params))
            row(f, "parameters-norm " + name, [params.norm()])


class Residual(torch.nn.Module):
    """Branches in the order in which the model file has them."""

    def __init__(self, main, shortcut=None):
        super().__init__()
        self.main = main
        self.shortcut = shortcut or torch.nn.Identity()

    def forward(self, x):
        return self.main(x) + self.shortcut(x)


def resnet(n):
    nn = torch.nn

    def conv(i, o, k, stride=1):
        return [nn.Conv2d(i, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o)]

    layers = conv(3, 16, 3) + [nn.ReLU()]
    channels = 16
    for c in (16, 32, 64):
        for _ in range(n):
            stride = 1 if c == channels else 2
            main = nn.Sequential(*conv(channels, c, 3, stride), nn.ReLU(), *conv(c, c, 3))
            short = None if c == channels else nn.Sequential(*conv(channels, c, 1, stride))
            layers += [Residual(main, short), nn.ReLU()]
            channels = c
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def mobilenetv2():
    import torchvision
    return torchvision.models.mobilenet_v2(num_classes=10, dropout=0.0)


def fill_normalised(model):
    """As fill(), for models of any structure; normalisations get weights around 1."""
    i = 0
    for layer in model.modules():
        own = list(layer.parameters(recurse=False))
        if not own:
            continue
        norm = isinstance(layer, torch.nn.BatchNorm2d)
        fan_in = 16 if norm else layer.weight[0].numel()
        values = lcg(sum(p.numel() for p in own), 1.0 / math.sqrt(fan_in), 100 + i)
        at = 0
        for p in own:
            p.data = values[at:at + p.numel()].reshape(p.shape).clone()
            at += p.numel()
        if norm:
            layer.weight.data += 1.0
        i += 1


def golden_normalised(path, make, batch, seed):
    """seed: of the input; one where torch's own float32 gradient is within 3e-5 of its float64.
    With most others a relu6 flips somewhere in MobileNetV2's 1x1 stages, and it is off by 1e-2."""
    with open(path, "w") as f:
        f.write("# by make_golden.py, torch %s, float64\n" % torch.__version__.split("+")[0])
        x = lcg(batch * 3072, 1.0, seed).reshape(batch, 3, 32, 32)
        labels = torch.tensor([(i * 7 + 3) % 10 for i in range(batch)])
        model = make().double()
        fill_normalised(model)
        y = model(x)
        value = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(y, labels)
        value.backward()
        grad = flat(p.grad for p in model.parameters())
        bns = [l for l in model.modules() if isinstance(l, torch.nn.BatchNorm2d)]
        row(f, "logits", y.detach().reshape(-1)[:20])
        row(f, "loss", [value.item()])
        row(f, "gradient", pick(grad))
        row(f, "gradient-norm", [grad.norm()])
        row(f, "state", pick(flat(t for l in bns for t in (l.running_mean, l.running_var))))
        model.eval()
        row(f, "logits-inference", model(x).detach().reshape(-1)[:20])


def schedules(path):
    sched = torch.optim.lr_scheduler
    with open(path, "w") as f:
        f.write("# by make_golden.py, torch %s\n" % torch.__version__.split("+")[0])
        for name, make in {
            "step": lambda o: sched.StepLR(o, step_size=3, gamma=0.5),
            "cosine": lambda o: sched.CosineAnnealingLR(o, T_max=10, eta_min=0.02),
        }.items():
            opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
            s = make(opt)
            rates = []
            for _ in range(10):
                rates.append(opt.param_groups[0]["lr"])
                opt.step()
                s.step()
            row(f, "rate " + name, rates)


out = sys.argv[1]
golden(out + "/cifar-cnn.txt", cifar_cnn, (3, 32, 32), 10, 4)
golden(out + "/sdss-mlp.txt", sdss_mlp, (6,), 3, 16)
golden_normalised(out + "/mobilenetv2.txt", mobilenetv2, 16, 12)
golden_normalised(out + "/resnet-8.txt", lambda: resnet(1), 4, 7)
golden_normalised(out + "/resnet-20.txt", lambda: resnet(3), 4, 7)
schedules(out + "/schedules.txt")
