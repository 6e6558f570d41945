"""Keras's side of compare.py, run by a python that has keras and tensorflow; see peer.py.

Kinds: default (train_on_batch, predict_on_batch), graph (a tf.function round the whole step), xla
(the same with jit_compile). Channels last, as TensorFlow wants them on a CPU. MobileNetV2 is built
here as torchvision has it: keras.applications' pads, rounds and normalises otherwise.
"""
import os
import sys

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy
import peer
import tensorflow as tf

L = keras.layers


def conv_norm(x, filters, kernel, stride, cut=True):
    if kernel > 1:
        x = L.ZeroPadding2D(kernel // 2)(x)
    if filters is None:
        x = L.DepthwiseConv2D(kernel, strides=stride, use_bias=False)(x)
    else:
        x = L.Conv2D(filters, kernel, strides=stride, use_bias=False)(x)
    x = L.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
    return L.ReLU(6.0)(x) if cut else x


def mobilenet():
    given = keras.Input((32, 32, 3))
    x = conv_norm(given, 32, 3, 2)
    for expansion, filters, count, stride in peer.MOBILENET:
        for i in range(count):
            before = x
            if expansion > 1:
                x = conv_norm(x, expansion * x.shape[-1], 1, 1)
            x = conv_norm(x, None, 3, stride if i == 0 else 1)
            x = conv_norm(x, filters, 1, 1, cut=False)
            if i > 0:
                x = L.Add()([before, x])
    x = L.GlobalAveragePooling2D()(conv_norm(x, 1280, 1, 1))
    return keras.Model(given, L.Dense(10)(L.Dropout(0.2)(x)))


def model_of(name):
    if name == "mobilenetv2":
        return mobilenet()
    if name == "sdss-mlp":
        return keras.Sequential([keras.Input((6,))] +
                                [L.Dense(n, activation="relu") for n in (64, 64, 32)] +
                                [L.Dense(3)])
    if name not in ("cifar-cnn", "grey-cnn"):
        raise ValueError("no such model for Keras here")
    channels, side, side = peer.SHAPES[name][0]
    return keras.Sequential([
        keras.Input((side, side, channels)),
        L.Conv2D(6, 5, activation="relu"), L.MaxPool2D(2),
        L.Conv2D(16, 5, activation="relu"), L.MaxPool2D(2), L.Flatten(),
        L.Dense(120, activation="relu"), L.Dense(84, activation="relu"), L.Dense(10)])


def optimizer_of(name):
    if peer.OPTIMIZERS.get(name) == "adam":
        return keras.optimizers.Adam(1e-4)
    return keras.optimizers.SGD(1e-4, momentum=0.9)


def make(job):
    name, batch, infer, kind = job["model"], job["batch"], job["infer"], job["kind"]
    tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(1)
    model, optimizer = model_of(name), optimizer_of(name)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    shape, classes = peer.SHAPES[name]
    n = peer.n_samples(batch, shape)
    random = numpy.random.default_rng(1)
    x = random.standard_normal((n, *shape[1:], shape[0]), dtype=numpy.float32)
    y = random.integers(0, classes, n)
    n_params = sum(int(numpy.prod(v.shape)) for v in model.trainable_variables)
    hello = {"params": n_params}
    if kind == "default":
        model.compile(optimizer=optimizer, loss=loss)
        if infer:
            return lambda at: model.predict_on_batch(x[at:at + batch]), n, hello
        return (lambda at: model.train_on_batch(x[at:at + batch], y[at:at + batch])), n, hello
    x, y = tf.constant(x), tf.constant(y)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=kind == "xla")
    def learn(a, b):
        with tf.GradientTape() as tape:
            value = loss(b, model(a, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return value

    @tf.function(jit_compile=kind == "xla")
    def forward(a):
        return model(a, training=False)

    def step(at):  # numpy() waits for it
        if infer:
            forward(x[at:at + batch]).numpy()
        else:
            learn(x[at:at + batch], y[at:at + batch]).numpy()

    return step, n, hello


peer.serve(sys.argv[1], make, {
    "title": "keras %s (tensorflow %s)" % (keras.__version__, tf.__version__),
    "kinds": ["default", "graph", "xla"]})
