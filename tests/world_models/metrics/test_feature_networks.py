"""Feature networks read from files beside plain PyTorch at random weights, and random features as they always were."""

import numpy as np
import pytest

from world_models.core.errors import ConfigError
from world_models.metrics import i3d, inception, lpips, random_features, tensor_files

FIELD = "config.eval.features.path"


def frames(count, side, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels)).astype(np.uint8)


def to_torch(torch, x):
    return torch.from_numpy(x).permute(0, 3, 1, 2).double() / 255


def test_random_features_are_a_fixed_function():
    gradient = np.add.outer(np.arange(32), 2 * np.arange(32))[None, ..., None].repeat(3, axis=-1).astype(np.uint8)
    found = np.asarray(random_features.random_features(gradient))
    assert found.shape == (1, random_features.SIZE)
    kernel = random_features.kernels()[0]
    assert kernel[0, 0, 0, :2] == pytest.approx(np.array([1.7640524, 0.4001572]) * (2 / 27) ** 0.5)
    x = 2 * gradient.astype(float) / 255 - 1
    for kernel in random_features.kernels():  # the same by hand
        padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        side = x.shape[1] // 2
        cut = [[padded[:, i : i + 2 * side : 2, j : j + 2 * side : 2] for j in range(3)] for i in range(3)]
        x = np.maximum(0, sum(cut[i][j] @ kernel[i, j].astype(float) for i in range(3) for j in range(3)))
    expected = x.reshape(1, 2, 2, 2, 2, 16).mean(axis=(2, 4)).reshape(1, -1)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_random_features_take_grey_frames_and_no_tiny_ones():
    grey = frames(2, 16, channels=1)
    expected = random_features.random_features(grey.repeat(3, axis=-1))
    np.testing.assert_array_equal(random_features.random_features(grey), expected)
    with pytest.raises(ValueError, match="16x16"):
        random_features.random_features(frames(2, 12))


# --- Inception-v3 ---

WIDTH = 6  # channels of every layer, so that the test is quick: the code takes them from the file
SHAPES = {"1x1": (1, 1), "3x3": (3, 3), "5x5": (5, 5)}


def kernel_shape(name):
    """Height and width of a layer's kernel, as torchvision has them."""
    last = name.rpartition(".")[2]
    wide, tall = (1, 7), (7, 1)
    special = {
        "branch7x7_1": (1, 1),
        "branch7x7_2": wide,
        "branch7x7_3": tall,
        "branch7x7dbl_1": (1, 1),
        **{f"branch7x7dbl_{i}": tall if i % 2 == 0 else wide for i in range(2, 6)},
        "branch7x7x3_1": (1, 1),
        "branch7x7x3_2": wide,
        "branch7x7x3_3": tall,
        "branch7x7x3_4": (3, 3),
        "branch_pool": (1, 1),
        "branch5x5_1": (1, 1),
        "branch3x3dbl_1": (1, 1),
        "branch3x3_1": (1, 1),
    }
    if last[-2:] in ("2a", "3a") and "branch" in last:
        return (1, 3)
    if last[-2:] in ("2b", "3b") and "branch" in last:
        return (3, 1)
    return special.get(last) or next(size for key, size in SHAPES.items() if key in last)


def random_inception():
    """A slim network with random weights under torchvision's names."""
    rng, tensors = np.random.default_rng(0), {}
    inputs, first = {"Conv2d_1a_3x3": 3}, WIDTH
    for block in dict.fromkeys(name.split(".")[0] for name in inception.layer_names() if "." in name):
        extra = first if block in ("Mixed_6a", "Mixed_7a") else 0  # the pooled input is passed on
        branches = 2 if extra else 6 if block in ("Mixed_7b", "Mixed_7c") else 4
        for name in inception.layer_names():
            begins = name.endswith("_1") or name.split(".")[-1] in ("branch1x1", "branch_pool")
            begins = begins or (block == "Mixed_6a" and name.endswith("branch3x3"))
            if name.startswith(block) and begins:
                inputs[name] = first
        first = branches * WIDTH + extra
    for name in inception.layer_names():
        shape = (WIDTH, inputs.get(name, WIDTH), *kernel_shape(name))
        tensors[f"{name}.conv.weight"] = rng.normal(size=shape, scale=(2 / np.prod(shape[1:])) ** 0.5)
        tensors[f"{name}.bn.weight"] = rng.uniform(0.5, 1.5, WIDTH)
        tensors[f"{name}.bn.bias"] = rng.normal(size=WIDTH, scale=0.1)
        tensors[f"{name}.bn.running_mean"] = rng.normal(size=WIDTH, scale=0.1)
        tensors[f"{name}.bn.running_var"] = rng.uniform(0.5, 1.5, WIDTH)
    tensors["fc.weight"] = rng.normal(size=(10, 6 * WIDTH))  # is left out
    return {name: x.astype(np.float32) for name, x in tensors.items()}


def inception_in_torch(torch, tensors, x):
    """The forward pass of the network of FID, in float64, written out block by block."""
    from torch.nn import functional as F

    get = {name: torch.from_numpy(x).double() for name, x in tensors.items()}

    def conv(name, x, stride=1, padding=0):
        x = F.conv2d(x, get[f"{name}.conv.weight"], stride=stride, padding=padding)
        mean, variance = get[f"{name}.bn.running_mean"], get[f"{name}.bn.running_var"]
        return F.relu(F.batch_norm(x, mean, variance, get[f"{name}.bn.weight"], get[f"{name}.bn.bias"], eps=1e-3))

    def average(x):
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    x = conv("Conv2d_1a_3x3", x, 2)
    x = conv("Conv2d_2b_3x3", conv("Conv2d_2a_3x3", x), padding=1)
    x = F.max_pool2d(x, 3, 2)
    x = F.max_pool2d(conv("Conv2d_4a_3x3", conv("Conv2d_3b_1x1", x)), 3, 2)
    for b in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        five = conv(f"{b}.branch5x5_2", conv(f"{b}.branch5x5_1", x), padding=2)
        double = conv(f"{b}.branch3x3dbl_2", conv(f"{b}.branch3x3dbl_1", x), padding=1)
        double = conv(f"{b}.branch3x3dbl_3", double, padding=1)
        x = torch.cat([conv(f"{b}.branch1x1", x), five, double, conv(f"{b}.branch_pool", average(x))], 1)
    b = "Mixed_6a"
    double = conv(f"{b}.branch3x3dbl_2", conv(f"{b}.branch3x3dbl_1", x), padding=1)
    double = conv(f"{b}.branch3x3dbl_3", double, 2)
    x = torch.cat([conv(f"{b}.branch3x3", x, 2), double, F.max_pool2d(x, 3, 2)], 1)
    for b in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        seven = conv(f"{b}.branch7x7_2", conv(f"{b}.branch7x7_1", x), padding=(0, 3))
        seven = conv(f"{b}.branch7x7_3", seven, padding=(3, 0))
        double = conv(f"{b}.branch7x7dbl_1", x)
        for i, padding in enumerate([(3, 0), (0, 3), (3, 0), (0, 3)], 2):
            double = conv(f"{b}.branch7x7dbl_{i}", double, padding=padding)
        x = torch.cat([conv(f"{b}.branch1x1", x), seven, double, conv(f"{b}.branch_pool", average(x))], 1)
    b = "Mixed_7a"
    three = conv(f"{b}.branch3x3_2", conv(f"{b}.branch3x3_1", x), 2)
    seven = conv(f"{b}.branch7x7x3_2", conv(f"{b}.branch7x7x3_1", x), padding=(0, 3))
    seven = conv(f"{b}.branch7x7x3_4", conv(f"{b}.branch7x7x3_3", seven, padding=(3, 0)), 2)
    x = torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)
    for b, pool in (("Mixed_7b", average), ("Mixed_7c", lambda x: F.max_pool2d(x, 3, 1, 1))):
        three = conv(f"{b}.branch3x3_1", x)
        three = [conv(f"{b}.branch3x3_2a", three, 1, (0, 1)), conv(f"{b}.branch3x3_2b", three, 1, (1, 0))]
        double = conv(f"{b}.branch3x3dbl_2", conv(f"{b}.branch3x3dbl_1", x), padding=1)
        double = [conv(f"{b}.branch3x3dbl_3a", double, 1, (0, 1)), conv(f"{b}.branch3x3dbl_3b", double, 1, (1, 0))]
        x = torch.cat([conv(f"{b}.branch1x1", x), *three, *double, conv(f"{b}.branch_pool", pool(x))], 1)
    return x.mean((2, 3)).numpy()


def test_inception_is_pytorchs(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = random_inception()
    tensor_files.write(tmp_path / "inception.safetensors", tensors)
    weights = inception.load(tmp_path / "inception.safetensors", FIELD)
    x = frames(2, 40)
    resized = torch.nn.functional.interpolate(to_torch(torch, x), (299, 299), mode="bilinear", align_corners=False)
    expected = inception_in_torch(torch, tensors, 2 * resized - 1)
    found = np.asarray(inception.features_of(weights, x))
    assert found.shape == (2, 6 * WIDTH)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected[0] - expected[1]).max() > 1e-3 * np.abs(expected).max()


def test_files_that_are_no_inception_are_named(tmp_path):
    def error_of(file):
        with pytest.raises(ConfigError) as caught:
            inception.load(file, FIELD)
        assert caught.value.field == FIELD
        return str(caught.value)

    tensors = random_inception()
    assert "missing.npz" in error_of(tmp_path / "missing.npz")
    (tmp_path / "a.pth").write_bytes(b"x")
    assert "a.pth" in error_of(tmp_path / "a.pth")
    for name in ("broken.npz", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"no tensors")
        assert name in error_of(tmp_path / name)
    without = {name: x for name, x in tensors.items() if name != "Mixed_6c.branch7x7_2.bn.bias"}
    tensor_files.write(tmp_path / "without.npz", without)
    assert "Mixed_6c.branch7x7_2.bn.bias" in error_of(tmp_path / "without.npz")
    wrong = tensors | {"Mixed_5c.branch5x5_2.conv.weight": np.zeros((WIDTH, 3, 5, 5), np.float32)}
    tensor_files.write(tmp_path / "wrong.npz", wrong)
    assert "fit each other" in error_of(tmp_path / "wrong.npz")


# --- I3D ---

I3D_BLOCKS = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
I3D_WIDTH = 3


def random_i3d():
    """A slim network with random weights under the names of pytorch-i3d."""
    rng, tensors = np.random.default_rng(0), {}

    def layer(name, inputs, side):
        shape = (I3D_WIDTH, inputs, side, side, side)
        tensors[f"{name}.conv3d.weight"] = rng.normal(size=shape, scale=(2 / np.prod(shape[1:])) ** 0.5)
        tensors[f"{name}.bn.weight"] = rng.uniform(0.5, 1.5, I3D_WIDTH)
        tensors[f"{name}.bn.bias"] = rng.normal(size=I3D_WIDTH, scale=0.1)
        tensors[f"{name}.bn.running_mean"] = rng.normal(size=I3D_WIDTH, scale=0.1)
        tensors[f"{name}.bn.running_var"] = rng.uniform(0.5, 1.5, I3D_WIDTH)

    layer("Conv3d_1a_7x7", 3, 7)
    layer("Conv3d_2b_1x1", I3D_WIDTH, 1)
    layer("Conv3d_2c_3x3", I3D_WIDTH, 3)
    for block in I3D_BLOCKS:
        inputs = I3D_WIDTH if block == "3b" else 4 * I3D_WIDTH
        for part in ("b0", "b1a", "b2a", "b3b"):
            layer(f"Mixed_{block}.{part}", inputs, 1)
        for part in ("b1b", "b2b"):
            layer(f"Mixed_{block}.{part}", I3D_WIDTH, 3)
    tensors["logits.conv3d.weight"] = rng.normal(size=(5, 4 * I3D_WIDTH, 1, 1, 1))
    tensors["logits.conv3d.bias"] = rng.normal(size=5)
    return {name: x.astype(np.float32) for name, x in tensors.items()}


def i3d_in_torch(torch, tensors, x):
    """The forward pass in float64 of clips [n, 3, time, h, w], with the padding of TensorFlow written out."""
    from torch.nn import functional as F

    get = {name: torch.from_numpy(x).double() for name, x in tensors.items()}

    def padded(x, sizes, strides):
        pads = []
        for length, size, stride in zip(x.shape[2:], sizes, strides):
            whole = max((-(-length // stride) - 1) * stride + size - length, 0)
            pads = [whole // 2, whole - whole // 2, *pads]  # the last axis comes first
        return F.pad(x, pads)

    def conv(name, x, stride=1):
        weight = get[f"{name}.conv3d.weight"]
        x = F.conv3d(padded(x, weight.shape[2:], (stride,) * 3), weight, stride=stride)
        mean, variance = get[f"{name}.bn.running_mean"], get[f"{name}.bn.running_var"]
        return F.relu(F.batch_norm(x, mean, variance, get[f"{name}.bn.weight"], get[f"{name}.bn.bias"], eps=1e-3))

    def pool(x, size, stride):  # after a ReLU zeros change no maximum
        return F.max_pool3d(padded(x, size, stride), size, stride)

    x = pool(conv("Conv3d_1a_7x7", x, 2), (1, 3, 3), (1, 2, 2))
    x = pool(conv("Conv3d_2c_3x3", conv("Conv3d_2b_1x1", x)), (1, 3, 3), (1, 2, 2))
    for block in I3D_BLOCKS:
        if block == "4b":
            x = pool(x, (3, 3, 3), (2, 2, 2))
        if block == "5b":
            x = pool(x, (2, 2, 2), (2, 2, 2))
        one = lambda part, x, block=block: conv(f"Mixed_{block}.{part}", x)
        pooled = pool(x, (3, 3, 3), (1, 1, 1))
        x = torch.cat([one("b0", x), one("b1b", one("b1a", x)), one("b2b", one("b2a", x)), one("b3b", pooled)], 1)
    x = F.avg_pool3d(x, (2, *x.shape[3:]), stride=1)
    return F.conv3d(x, get["logits.conv3d.weight"], get["logits.conv3d.bias"]).mean((2, 3, 4)).numpy()


@pytest.mark.parametrize("time", [9, 20])
def test_i3d_is_pytorchs(tmp_path, monkeypatch, time):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(i3d, "SIDE", 64)  # the network takes any size
    tensors = random_i3d()
    tensor_files.write(tmp_path / "i3d.npz", tensors)
    weights = i3d.load(tmp_path / "i3d.npz", FIELD)
    clips = frames(2 * time, 40).reshape(2, time, 40, 40, 3)
    x = to_torch(torch, clips.reshape(-1, 40, 40, 3))
    x = 2 * torch.nn.functional.interpolate(x, (64, 64), mode="bilinear", align_corners=False) - 1
    expected = i3d_in_torch(torch, tensors, x.reshape(2, time, 3, 64, 64).transpose(1, 2))
    found = np.asarray(i3d.features_of(weights, clips))
    assert found.shape == (2, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert np.abs(expected[0] - expected[1]).max() > 1e-3 * np.abs(expected).max()
    with pytest.raises(ValueError, match="at least 9 frames"):
        i3d.features_of(weights, clips[:, :8])


def test_files_that_are_no_i3d_are_named(tmp_path):
    tensors = random_i3d()
    wrong = {"Mixed_4c.b1b.conv3d.weight": np.zeros((I3D_WIDTH, 2, 3, 3, 3), np.float32)}
    without = {name: x for name, x in tensors.items() if name != "Mixed_4c.b1b.bn.bias"}
    for number, (held, said) in enumerate([(without, "Mixed_4c.b1b.bn.bias"), (tensors | wrong, "fit each other")]):
        tensor_files.write(tmp_path / f"{number}.npz", held)
        with pytest.raises(ConfigError, match=said) as caught:
            i3d.load(tmp_path / f"{number}.npz", FIELD)
        assert caught.value.field == FIELD


# --- LPIPS ---

ALEX = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
VGG = {0: 3, 2: 8, 5: 8, 7: 12, 10: 12, 12: 16, 14: 16, 17: 16, 19: 16, 21: 16, 24: 16, 26: 16, 28: 16}  # slim


def random_lpips(name):
    """Random weights under torchvision's names, and lpips' for the linear ones."""
    rng = np.random.default_rng(0)
    sizes = ALEX
    if name == "vgg16":
        outputs = [*list(VGG.values())[1:], 16]
        sizes = {number: (out, inputs, 3) for (number, inputs), out in zip(VGG.items(), outputs)}
    tensors = {}
    for number, (out, inputs, side) in sizes.items():
        scale = (2 / (inputs * side**2)) ** 0.5
        tensors[f"features.{number}.weight"] = rng.normal(size=(out, inputs, side, side), scale=scale)
        tensors[f"features.{number}.bias"] = rng.normal(size=out, scale=0.1)
    last = [part[-1] for part in lpips.NETWORKS[name]]
    for i, number in enumerate(last):
        tensors[f"lin{i}.model.1.weight"] = rng.uniform(0, 1, (1, sizes[number][0], 1, 1))
    return {name: x.astype(np.float32) for name, x in tensors.items()}


def lpips_in_torch(torch, tensors, x, y, name):
    from torch.nn import functional as F

    get = {name: torch.from_numpy(x).double() for name, x in tensors.items()}
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])

    def conv(number, x, **options):
        return F.relu(F.conv2d(x, get[f"features.{number}.weight"], get[f"features.{number}.bias"], **options))

    def alex(x):
        one = conv(0, x, stride=4, padding=2)
        two = conv(3, F.max_pool2d(one, 3, 2), padding=2)
        three = conv(6, F.max_pool2d(two, 3, 2), padding=1)
        four = conv(8, three, padding=1)
        return [one, two, three, four, conv(10, four, padding=1)]

    def vgg16(x):
        found = []
        for numbers in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
            x = F.max_pool2d(x, 2) if found else x
            for number in numbers:
                x = conv(number, x, padding=1)
            found.append(x)
        return found

    total = 0
    network = {"alex": alex, "vgg16": vgg16}[name]
    both = [network((2 * z - 1 - shift[:, None, None]) / scale[:, None, None]) for z in (x, y)]
    for i, (a, b) in enumerate(zip(*both)):
        a, b = (z / (z.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for z in (a, b))
        total = total + F.conv2d((a - b) ** 2, get[f"lin{i}.model.1.weight"]).mean((1, 2, 3))
    return total.numpy()


@pytest.mark.parametrize("name", ["alex", "vgg16"])
def test_lpips_is_pytorchs(tmp_path, name):
    torch = pytest.importorskip("torch")
    tensors = random_lpips(name)
    tensor_files.write(tmp_path / "lpips.npz", tensors)
    weights = lpips.load(tmp_path / "lpips.npz", FIELD)
    assert weights.name == name
    x, y = frames(3, 64, 0), frames(3, 64, 1)
    y[2] = x[2]
    found = np.asarray(lpips.lpips(weights, x, y))
    expected = lpips_in_torch(torch, tensors, to_torch(torch, x), to_torch(torch, y), name)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert found[:2].min() > 0.1
    assert found[2] == 0


def test_lpips_takes_the_names_of_its_package(tmp_path):
    tensors = random_lpips("alex")
    slices = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}
    renamed = {}
    for name, x in tensors.items():
        head, number, *rest = name.split(".")
        renamed[f"net.slice{slices[int(number)]}.{number}.{rest[0]}" if head == "features" else name] = x
    tensor_files.write(tmp_path / "a.npz", tensors)
    tensor_files.write(tmp_path / "b.npz", renamed)
    one, two = (lpips.load(tmp_path / file, FIELD) for file in ("a.npz", "b.npz"))
    np.testing.assert_array_equal(one.layers[8][0], two.layers[8][0])
    with pytest.raises(ValueError, match="32 pixels"):
        lpips.lpips(one, frames(1, 16), frames(1, 16))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("features.0.weight"), "features.0.weight"),
        (lambda t: t.pop("features.8.bias"), "features.8.bias"),
        (lambda t: t.pop("lin3.model.1.weight"), "lin3.model.1.weight"),
        (lambda t: t.update({"lin3.model.1.weight": np.ones((1, 7, 1, 1), np.float32)}), "fit each other"),
    ],
)
def test_files_that_are_no_lpips_are_named(tmp_path, change, said):
    tensors = random_lpips("alex")
    change(tensors)
    tensor_files.write(tmp_path / "a.npz", tensors)
    with pytest.raises(ConfigError, match=said) as caught:
        lpips.load(tmp_path / "a.npz", FIELD)
    assert caught.value.field == FIELD


def test_fingerprints_tell_weights_apart():
    tensors = {"a": np.arange(3.0), "b": np.zeros(2)}
    assert tensor_files.fingerprint(tensors) == tensor_files.fingerprint(dict(reversed(tensors.items())))
    assert tensor_files.fingerprint(tensors) != tensor_files.fingerprint(tensors | {"a": np.arange(3.0) + 1e-12})
