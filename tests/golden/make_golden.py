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
            layer.weight.data = (layer.weight.data.float() + 1.0).double()  # as floats add
        i += 1


def smooth(module):
    """The same model without kinks, every relu a gelu."""
    for name, child in module.named_children():
        if isinstance(child, (torch.nn.ReLU, torch.nn.ReLU6)):
            setattr(module, name, torch.nn.GELU())
        else:
            smooth(child)
    return module


def golden_normalised(path, make, batch):
    """Gradients through the whole model are those of its smooth twin: with float32's rounding some
    relu6 of a million is always on the other side of its kink, and behind batch-norm over few
    numbers a single one moves a gradient by 1e-2. The model itself is compared block by block."""
    with open(path, "w") as f:
        f.write("# by make_golden.py, torch %s, float64\n" % torch.__version__.split("+")[0])
        x = lcg(batch * 3072, 1.0, 7).reshape(batch, 3, 32, 32)
        labels = torch.tensor([(i * 7 + 3) % 10 for i in range(batch)])
        for kind in ("smooth ", ""):
            model = (smooth(make()) if kind else make()).double()
            fill_normalised(model)
            y = model(x)
            value = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(y, labels)
            value.backward()
            grad = flat(p.grad for p in model.parameters())
            bns = [l for l in model.modules() if isinstance(l, torch.nn.BatchNorm2d)]
            row(f, kind + "logits", y.detach().reshape(-1)[:20])
            row(f, kind + "loss", [value.item()])
            if kind:
                row(f, kind + "gradient", pick(grad))
                row(f, kind + "gradient-norm", [grad.norm()])
            row(f, kind + "state",
                pick(flat(t for l in bns for t in (l.running_mean, l.running_var))))
            model.eval()
            row(f, kind + "logits-inference", model(x).detach().reshape(-1)[:20])


def golden_blocks(path, batch):
    """MobileNetV2 block by block: what each gives, the gradient it gets, those of its parameters.
    Digits enough to show that another float64 computes the same."""
    def fine(key, values):
        f.write(key + ": " + " ".join("%.15g" % float(v) for v in values) + "\n")

    with open(path, "w") as f:
        f.write("# by make_golden.py, torch %s, float64\n" % torch.__version__.split("+")[0])
        model = mobilenetv2().double()
        fill_normalised(model)
        parts = list(model.features)
        blocks = [parts[:2]] + [[p] for p in parts[2:18]] + [[parts[18]]]
        x = lcg(batch * 3072, 1.0, 7).reshape(batch, 3, 32, 32)
        labels = torch.tensor([(i * 7 + 3) % 10 for i in range(batch)])
        outs = []
        for block in blocks:
            for part in block:
                x = part(x)
            x.retain_grad()
            outs.append(x)
        logits = model.classifier(torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))
        logits.retain_grad()
        outs[-1] = logits
        blocks[-1].append(model.classifier)
        torch.nn.CrossEntropyLoss(label_smoothing=0.1)(logits, labels).backward()
        for i, (block, y) in enumerate(zip(blocks, outs)):
            grad = flat(p.grad for part in block for p in part.parameters())
            fine("block %d y" % i, pick(y.detach().reshape(-1)))
            fine("block %d dy" % i, pick(y.grad.reshape(-1)))
            fine("block %d dparams" % i, pick(grad))
            fine("block %d dparams-norm" % i, [grad.norm()])


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


if __name__ == "__main__":
    out = sys.argv[1]
    golden(out + "/cifar-cnn.txt", cifar_cnn, (3, 32, 32), 10, 4)
    golden(out + "/sdss-mlp.txt", sdss_mlp, (6,), 3, 16)
    golden_normalised(out + "/mobilenetv2.txt", mobilenetv2, 16)
    golden_normalised(out + "/resnet-8.txt", lambda: resnet(1), 4)
    golden_normalised(out + "/resnet-20.txt", lambda: resnet(3), 4)
    golden_blocks(out + "/mobilenetv2-blocks.txt", 4)
    schedules(out + "/schedules.txt")
