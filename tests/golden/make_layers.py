#!/usr/bin/python3
"""Every layer and every loss by itself, and the character transformer, by PyTorch in float64.

Run by hand (Debian: apt install python3-torch), never by the build:
    tests/golden/make_layers.py tests/golden
A case of layers.txt is a model in dml's language and what PyTorch makes of the same lines: y, and the
gradients of sum(r y). Parameters, x and r come from the formula of tests/unit/nn_ref.h; only
results are stored, the first 40 or every so manieth. test_golden_layers.c compares.
"""
import sys

import torch
from torch import nn

from make_golden import flat, lcg, pick, row

torch.set_num_threads(1)
BATCH = 3


class Places(nn.Module):
    """A module that works on the last axis, applied to the channels of [B][C][H][W]."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        b, c, h, w = x.shape
        y = self.inner(x.reshape(b, c, h * w).transpose(1, 2))
        return y.transpose(1, 2).reshape(b, y.shape[2], h, w)


class Attention(nn.Module):
    """Causal; parameters in dml's order: both matrices, then both biases."""

    def __init__(self, channels, heads):
        super().__init__()
        self.inner = nn.MultiheadAttention(channels, heads, batch_first=True)

    def own(self):
        i = self.inner
        return [i.in_proj_weight, i.out_proj.weight, i.in_proj_bias, i.out_proj.bias]

    def forward(self, x):
        t = x.shape[1]
        ahead = torch.ones(t, t, dtype=torch.bool).triu(1)
        return self.inner(x, x, x, attn_mask=ahead, need_weights=False)[0]


class Embedding(nn.Module):
    def __init__(self, codes, size):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(codes, size))

    def forward(self, x):
        return nn.functional.embedding(x.long(), self.table)


class Position(nn.Module):
    def __init__(self, positions, size):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(positions, size))

    def forward(self, x):
        return x + self.table


class Sum(nn.Module):
    def __init__(self, main, shortcut=None):
        super().__init__()
        self.main = main
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x):
        return self.main(x) + self.shortcut(x)


def own_of(module):
    if isinstance(module, Attention):
        return module.own()
    if isinstance(module, nn.MultiheadAttention) or isinstance(module, nn.Linear) and \
            type(module).__name__ == "NonDynamicallyQuantizableLinear":
        return []
    return list(module.parameters(recurse=False))


def layers_of(model):
    """Parameters of each layer that has some, in the order of the model file."""
    return [own for own in (own_of(m) for m in model.modules()) if own]


def fill(model, bound):
    for i, own in enumerate(layers_of(model)):
        n = sum(p.numel() for p in own)
        values = lcg(n, bound(own), 100 + i)
        at = 0
        for p in own:
            p.data = values[at:at + p.numel()].reshape(p.shape).clone()
            at += p.numel()


def is_norm(module):
    return isinstance(module, (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d))


def shift_norms(model):
    for m in model.modules():
        if is_norm(m):
            m.weight.data = (m.weight.data.float() + 1.0).double()  # as floats add


C = nn.Conv2d
# name, lines of the model, bound of x (a negative one: so many codes), the same in PyTorch
CASES = [
    ("conv", "input 3 8 7; conv 4 kernel 3", 1, C(3, 4, 3)),
    ("conv-stride-padding", "input 5 9 6; conv 3 kernel 4 stride 3 padding 2", 1,
     C(5, 3, 4, 3, 2)),
    ("conv-direct", "input 3 8 7; conv 6 kernel 5 padding 2 method direct", 1, C(3, 6, 5, 1, 2)),
    ("conv-im2col", "input 3 8 7; conv 6 kernel 5 padding 2 method im2col", 1, C(3, 6, 5, 1, 2)),
    ("conv-last", "input 3 8 7; conv 6 kernel 3 stride 2 padding 1 method last bias no", 1,
     C(3, 6, 3, 2, 1, bias=False)),
    ("conv-pointwise", "input 20 3 5; conv 17 kernel 1 bias no", 1, C(20, 17, 1, bias=False)),
    ("conv-groups", "input 6 7 6; conv 9 kernel 3 stride 2 padding 1 groups 3", 1,
     C(6, 9, 3, 2, 1, groups=3)),
    ("conv-depthwise", "input 24 6 5; conv 24 kernel 3 padding 1 groups 24 bias no", 1,
     C(24, 24, 3, 1, 1, groups=24, bias=False)),
    ("conv-depthwise-stride", "input 18 7 8; conv 18 kernel 3 stride 2 padding 1 groups 18", 1,
     C(18, 18, 3, 2, 1, groups=18)),
    ("conv-relu-pool", "input 3 10 8; conv 6 kernel 3; relu; max-pool 2", 1,
     nn.Sequential(C(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2))),
    ("conv-relu-pool-5", "input 3 10 13; conv 6 kernel 5 padding 2; relu; max-pool 2", 1,
     nn.Sequential(C(3, 6, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(2))),
    ("batch-norm", "input 5 4 3; batch-norm", 2, nn.BatchNorm2d(5)),
    ("batch-norm-row", "input 7; batch-norm momentum 0.3 epsilon 0.01", 2,
     nn.BatchNorm1d(7, eps=0.01, momentum=0.3)),
    ("layer-norm", "input 6 5 1; layer-norm", 2, Places(nn.LayerNorm(6))),
    ("layer-norm-row", "input 7; layer-norm epsilon 0.01", 2, nn.LayerNorm(7, eps=0.01)),
    ("relu", "input 37; relu", 3, nn.ReLU()),
    ("relu6", "input 37; relu6", 12, nn.ReLU6()),
    ("leaky-relu", "input 37; leaky-relu 0.2", 3, nn.LeakyReLU(0.2)),
    ("leaky-relu-default", "input 37; leaky-relu", 3, nn.LeakyReLU()),
    ("tanh", "input 37; tanh", 4, nn.Tanh()),
    ("sigmoid", "input 37; sigmoid", 8, nn.Sigmoid()),
    ("gelu", "input 37; gelu", 5, nn.GELU()),
    ("max-pool", "input 3 7 8; max-pool 3 stride 2", 1, nn.MaxPool2d(3, 2)),
    ("max-pool-2", "input 3 7 8; max-pool 2", 1, nn.MaxPool2d(2)),
    ("avg-pool", "input 3 7 8; avg-pool 3 stride 2", 1, nn.AvgPool2d(3, 2)),
    ("global-avg-pool", "input 5 4 3; global-avg-pool", 1, nn.AdaptiveAvgPool2d(1)),
    ("linear", "input 9; linear 7", 1, nn.Linear(9, 7)),
    ("flatten-linear", "input 3 4 5; flatten; linear 7", 1,
     nn.Sequential(nn.Flatten(), nn.Linear(60, 7))),
    ("residual", "input 9; residual; linear 9; tanh; end", 1,
     Sum(nn.Sequential(nn.Linear(9, 9), nn.Tanh()))),
    ("residual-shortcut", "input 4 6 6; residual; conv 6 kernel 3 stride 2 padding 1; tanh; shortcut; "
     "conv 6 kernel 1 stride 2; end", 1,
     Sum(nn.Sequential(C(4, 6, 3, 2, 1), nn.Tanh()), C(4, 6, 1, 2))),
    ("embedding", "input 7; embedding 5 size 6", -5, nn.Sequential(Embedding(5, 6))),
    ("embedding-position", "input 7; embedding 5 size 6; position", -5,
     nn.Sequential(Embedding(5, 6), Position(7, 6))),
    ("position", "input 6 5 1; position", 1, Places(Position(5, 6))),
    ("attention-1", "input 6 5 1; attention 1", 2, Places(Attention(6, 1))),
    ("attention", "input 12 9 1; attention 3", 2, Places(Attention(12, 3))),
    ("attention-long", "input 16 33 1; attention 4", 2, Places(Attention(16, 4))),
]


def far_from_kinks(_, inputs, __):
    """A sum that lies within rounding of 0 has no slope to compare."""
    assert inputs[0].abs().min() > 1e-4


def case(f, name, lines, bound, model):
    shape = [int(v) for v in lines.split(";")[0].split()[1:]]
    model = model.double()
    fill(model, lambda own: 0.5)
    shift_norms(model)
    if bound < 0:
        x = (lcg(BATCH * shape[0], 0.5, 7) + 0.5).mul(-bound).floor().reshape(BATCH, *shape)
    else:
        x = lcg(BATCH * torch.Size(shape).numel(), bound, 7).reshape(BATCH, *shape)
        x.requires_grad_()
    for m in model.modules():
        if isinstance(m, nn.ReLU):
            m.register_forward_hook(far_from_kinks)
    y = model(x)
    if bound < 0:  # [B][T][C]; planes are [B][C][T]
        y = y.transpose(1, 2)
    r = lcg(y.numel(), 1.0, 3).reshape(y.shape)
    (y * r).sum().backward()
    f.write("\ncase: %s\nmodel: %s\nbound: %g\n" % (name, lines, bound))
    row(f, "y", pick(y.detach().reshape(-1)))
    if bound > 0:
        row(f, "dx", pick(x.grad.reshape(-1)))
    own = [p.grad for layer in layers_of(model) for p in layer]
    if own:
        row(f, "dparams", pick(flat(own)))
    for m in model.modules():
        if hasattr(m, "running_mean"):
            row(f, "state", flat([m.running_mean, m.running_var]))
            model.eval()
            row(f, "y-inference", pick(model(x).detach().reshape(-1)))


def losses(f):
    """Logits from the formula, bound 4; the gradient of the mean over the samples."""
    b, n = 5, 7
    y = lcg(b * n, 4.0, 11).reshape(b, n).requires_grad_()
    labels = torch.tensor([(i * 7 + 3) % n for i in range(b)])
    for smoothing in (0, 0.1, 0.5):
        y.grad = None
        loss = nn.CrossEntropyLoss(label_smoothing=smoothing)(y, labels)
        loss.backward()
        name = "cross-entropy" + (" smoothing %g" % smoothing if smoothing else "")
        f.write("\ncase: loss %s\n" % name)
        row(f, "loss", [loss.item()])
        row(f, "dy", pick(y.grad.reshape(-1)))
    y = lcg(b, 4.0, 11).requires_grad_()
    loss = nn.MSELoss()(y, lcg(b, 4.0, 12))
    loss.backward()
    f.write("\ncase: loss mse\n")
    row(f, "loss", [loss.item()])
    row(f, "dy", y.grad)
    # sequences: 6 codes of 5, each position's right answer is the next code, the last one's the label
    t, v = 6, 5
    codes = (lcg(b * t, 0.5, 13) + 0.5).mul(v).floor().reshape(b, t).long()
    labels = torch.tensor([(i * 7 + 3) % v for i in range(b)])
    answers = torch.cat([codes[:, 1:], labels[:, None]], 1)
    y = lcg(b * t * v, 4.0, 11).reshape(b, t, v).requires_grad_()
    for smoothing in (0, 0.1):
        y.grad = None
        loss = nn.CrossEntropyLoss(label_smoothing=smoothing)(y.reshape(-1, v), answers.reshape(-1))
        loss.backward()
        name = "next-token" + (" smoothing %g" % smoothing if smoothing else "")
        f.write("\ncase: loss %s\n" % name)
        row(f, "loss", [loss.item()])
        row(f, "dy", pick(y.grad.reshape(-1)))


def transformer():
    c, v, t = 128, 96, 64
    blocks = []
    for _ in range(4):
        blocks += [Sum(nn.Sequential(nn.LayerNorm(c), Attention(c, 4))),
                   Sum(nn.Sequential(nn.LayerNorm(c), nn.Linear(c, 4 * c), nn.GELU(),
                                     nn.Linear(4 * c, c)))]
    return nn.Sequential(Embedding(v, c), Position(t, c), *blocks, nn.LayerNorm(c),
                         nn.Linear(c, v))


def char_transformer(f, smoothing):
    b, t, v = 2, 64, 96
    codes = (lcg(b * t, 0.5, 7) + 0.5).mul(v).floor().reshape(b, t).long()
    labels = torch.tensor([(i * 7 + 3) % v for i in range(b)])
    answers = torch.cat([codes[:, 1:], labels[:, None]], 1).reshape(-1)
    model = transformer().double()
    # as in test_golden.c: 1/sqrt(fan_in), for tables 1, for normalisations 1/4 around 1
    fill(model, lambda own: 0.25 if own[0].dim() == 1 else
         1.0 if len(own) == 1 else own[0].shape[1] ** -0.5)
    shift_norms(model)
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    values = []
    for step in range(6):
        opt.zero_grad()
        y = model(codes)
        value = loss(y.reshape(-1, v), answers)
        value.backward()
        values.append(value.item())
        if step == 0:
            layers = layers_of(model)
            row(f, "logits", pick(y.detach().reshape(-1)))
            row(f, "gradient", pick(flat(p.grad for own in layers for p in own)))
            row(f, "gradient-norms", [flat(p.grad for p in own).norm() for own in layers])
        opt.step()
    row(f, "loss adam", values)


if __name__ == "__main__":
    out = sys.argv[1]
    about = "# by make_layers.py, torch %s, float64\n" % torch.__version__.split("+")[0]
    with open(out + "/layers.txt", "w") as f:
        f.write(about)
        for c in CASES:
            case(f, *c)
        losses(f)
    with open(out + "/char-transformer.txt", "w") as f:
        f.write(about)
        char_transformer(f, 0.0)
    with open(out + "/char-transformer-smoothing.txt", "w") as f:
        f.write(about)
        char_transformer(f, 0.1)
