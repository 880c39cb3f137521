"""Checkpoints of DIAMOND's: the same outputs as a network written here in PyTorch's functions, by their names."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.tools import weights
from world_models.checkpointing.parts import restore_parts
from world_models.core.errors import UserError
from world_models.diffusion.edm import EDM, sample, sigma_schedule
from world_models.models.video_diffusion import diamond
from world_models.models.video_diffusion.model import VideoDiffusion

torch = pytest.importorskip("torch", reason="pip install torch to test DIAMOND's checkpoints")

ACTIONS, CONTEXT, CONDITION, CHANNELS, BLOCKS = 5, 4, 32, (32, 64, 64), 2


def state_dict(seed=0):
    """A denoiser of the released layout, every number of which is noise."""
    make, found = torch.Generator().manual_seed(seed), {}

    def add(name, *shape, bias=True):
        fan = max(1, int(np.prod(shape[1:])))
        found[f"{name}.weight"] = torch.randn(shape, generator=make) * (2 / fan) ** 0.5
        if bias:
            found[f"{name}.bias"] = 0.3 * torch.randn(shape[0], generator=make)

    def block(name, a, b, attention=False):
        if a != b:
            add(f"{name}.proj", b, a, 1, 1)
        add(f"{name}.norm1.linear", 2 * a, CONDITION)
        add(f"{name}.conv1", b, a, 3, 3)
        add(f"{name}.norm2.linear", 2 * b, CONDITION)
        add(f"{name}.conv2", b, b, 3, 3)
        if attention:
            add(f"{name}.attn.norm.norm", b)
            add(f"{name}.attn.qkv_proj", 3 * b, b, 1, 1)
            add(f"{name}.attn.out_proj", b, b, 1, 1)

    add("noise_emb", 1, CONDITION // 2, bias=False)
    add("act_emb.0", ACTIONS, CONDITION // CONTEXT, bias=False)
    add("cond_proj.0", CONDITION, CONDITION)
    add("cond_proj.2", CONDITION, CONDITION)
    add("conv_in", CHANNELS[0], 3 * (CONTEXT + 1), 3, 3)
    levels = list(zip((CHANNELS[0], *CHANNELS[:-1]), CHANNELS))
    for i, (a, b) in enumerate(levels):
        for j in range(BLOCKS):
            block(f"unet.d_blocks.{i}.resblocks.{j}", a if j == 0 else b, b)
        if i:
            add(f"unet.downsamples.{i}.conv", a, a, 3, 3)
    for j in range(2):
        block(f"unet.mid_blocks.resblocks.{j}", CHANNELS[-1], CHANNELS[-1], True)
    for i, (a, b) in enumerate(reversed(levels)):
        for j in range(BLOCKS):
            block(f"unet.u_blocks.{i}.resblocks.{j}", 2 * b, b)
        block(f"unet.u_blocks.{i}.resblocks.{BLOCKS}", a + b, a)
        if i:
            add(f"unet.upsamples.{i}.conv", b, b, 3, 3)
    add("norm_out.norm", CHANNELS[0])
    add("conv_out", 3, CHANNELS[0], 3, 3)
    return found


def forward(p, noisy, c_noise, past, actions):
    """The network by PyTorch's functions: [n, 3, h, w], [n], [n, 12, h, w], [n, 4] -> [n, 3, h, w]."""
    F = torch.nn.functional
    linear = lambda name, x: F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])
    conv = lambda name, x, **options: F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], **options)
    groups = lambda x: max(1, x.shape[1] // 32)

    def adaptive(name, x, condition):
        scale, shift = linear(f"{name}.linear", condition).chunk(2, dim=1)
        x = F.group_norm(x, groups(x), eps=1e-5)
        return x * (1 + scale[:, :, None, None]) + shift[:, :, None, None]

    def block(name, x, condition):
        y = conv(f"{name}.conv1", F.silu(adaptive(f"{name}.norm1", x, condition)), padding=1)
        y = conv(f"{name}.conv2", F.silu(adaptive(f"{name}.norm2", y, condition)), padding=1)
        x = y + (conv(f"{name}.proj", x) if f"{name}.proj.weight" in p else x)
        if f"{name}.attn.qkv_proj.weight" not in p:
            return x
        norm = f"{name}.attn.norm.norm"
        x = F.group_norm(x, groups(x), p[f"{norm}.weight"], p[f"{norm}.bias"], 1e-5)
        q, k, v = (
            y.flatten(2).unflatten(1, (-1, 8)).transpose(2, 3) for y in conv(f"{name}.attn.qkv_proj", x).chunk(3, dim=1)
        )
        mixed = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(8), dim=-1) @ v
        return x + conv(f"{name}.attn.out_proj", mixed.transpose(2, 3).reshape(x.shape))

    angles = 2 * math.pi * c_noise[:, None] * p["noise_emb.weight"]
    condition = torch.cat([angles.cos(), angles.sin()], dim=1) + p["act_emb.0.weight"][actions].flatten(1)
    condition = linear("cond_proj.2", F.silu(linear("cond_proj.0", condition)))
    x, skips = conv("conv_in", torch.cat([past, noisy], dim=1), padding=1), []
    for i in range(len(CHANNELS)):
        x = conv(f"unet.downsamples.{i}.conv", x, stride=2, padding=1) if i else x
        skips.append(x)
        for j in range(BLOCKS):
            x = block(f"unet.d_blocks.{i}.resblocks.{j}", x, condition)
            skips.append(x)
    for j in range(2):
        x = block(f"unet.mid_blocks.resblocks.{j}", x, condition)
    for i in range(len(CHANNELS)):
        x = conv(f"unet.upsamples.{i}.conv", F.interpolate(x, scale_factor=2), padding=1) if i else x
        for j in range(BLOCKS + 1):
            x = block(f"unet.u_blocks.{i}.resblocks.{j}", torch.cat([x, skips.pop()], dim=1), condition)
    x = F.group_norm(x, groups(x), p["norm_out.norm.weight"], p["norm_out.norm.bias"], 1e-5)
    return conv("conv_out", F.silu(x), padding=1)


def denoised(p, noisy, sigma, past, actions):
    """D(x; σ) before quantization."""
    total = math.sqrt(sigma**2 + 0.3**2)
    c_skip = 0.25 / (total**2 + 0.25)
    level = torch.full((len(noisy),), math.log(total) / 4)
    output = forward(p, noisy / math.sqrt(total**2 + 0.25), level, past / 0.5, actions)
    return c_skip * noisy + total * math.sqrt(c_skip) * output


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(state dict, our model, what was imported) of one file."""
    tensors = state_dict()
    file = tmp_path_factory.mktemp("diamond") / "Breakout.pt"
    agent = {f"denoiser.inner_model.{name}": x for name, x in tensors.items()}
    torch.save({**agent, "actor_critic.lstm.bias": torch.zeros(4)}, file)
    found = diamond.read(file)
    make = lambda: VideoDiffusion(found.options, EDM(), (16, 24, 3), found.actions, rngs=nnx.Rngs(0))
    model = nnx.eval_shape(make)
    nnx.update(model, jax.tree.map(jnp.asarray, found.params))
    nnx.update(model, jax.tree.map(jnp.asarray, found.constants))
    return tensors, model, found, file


def inputs(n=2):
    rng = np.random.default_rng(3)
    noisy = rng.normal(size=(n, 16, 24, 3)).astype(np.float32)
    context = rng.uniform(-1, 1, (n, CONTEXT, 16, 24, 3)).astype(np.float32)
    actions = rng.integers(0, ACTIONS, (n, CONTEXT))
    past = torch.from_numpy(context.transpose(0, 1, 4, 2, 3).reshape(n, -1, 16, 24).copy())
    return noisy, context, actions, past


def channels_first(x):
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy())


def test_outputs_are_those_of_the_released_network(both):
    tensors, model, found, _ = both
    noisy, context, actions, past = inputs()
    level = np.array([-0.4, 0.3], np.float32)
    ours = jax.jit(model.network)(noisy, level, context, actions)
    theirs = forward(tensors, channels_first(noisy), torch.from_numpy(level), past / 0.5, torch.from_numpy(actions))
    scale = float(theirs.std())
    np.testing.assert_allclose(np.moveaxis(np.asarray(ours), -1, 1) / scale, theirs / scale, atol=2e-5)
    assert found.left_out == ["actor_critic: not part of the denoiser, left out"]
    assert found.options.network.channels == CHANNELS


def test_samples_are_those_of_the_released_sampler(both):
    tensors, model, _, _ = both
    noisy, context, actions, past = inputs()
    sigmas = sigma_schedule(3, 2e-3, 5.0)

    def denoise(x, sigma):
        level = jnp.broadcast_to(sigma, x.shape[:1])
        return model.process.denoised(x, model.network(*model.process.network_input(x, level), context, actions), level)

    ours = jax.jit(lambda x: sample(denoise, x, sigmas))(noisy)
    x = channels_first(noisy)
    for sigma, following in zip(*(np.asarray(part, np.float64) for part in (sigmas[:-1], sigmas[1:]))):
        x = x + (following - sigma) * (x - denoised(tensors, x, sigma, past, torch.from_numpy(actions))) / sigma
    np.testing.assert_allclose(np.moveaxis(np.asarray(ours), -1, 1), x, atol=1e-4 * float(x.std()))


def test_a_file_becomes_a_checkpoint_to_begin_with(both, tmp_path, capsys):
    _, model, _, file = both
    assert weights.main(["", "import", str(file), str(tmp_path / "start")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert f"config.model.network.channels={CHANNELS}" in said[-2]
    assert f"A model of {ACTIONS} actions" in said[-2]
    own = nnx.as_pure(nnx.state(model))
    restored = restore_parts(tmp_path / "start", None, own)
    assert restored.left_out == []
    for x, y in zip(jax.tree.leaves(restored.arrays), jax.tree.leaves(own), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("change", ["noise_cond_emb.weight", "missing", "shape", "nothing", "text"])
def test_other_files_are_refused_by_name(change, tmp_path):
    tensors, file = state_dict(), tmp_path / "Pong.pt"
    if change == "missing":
        del tensors["unet.mid_blocks.resblocks.1.attn.out_proj.bias"]
    elif change == "shape":
        tensors["cond_proj.2.bias"] = torch.zeros(3)
    elif change == "nothing":
        tensors = {"other": torch.zeros(1)}
    else:
        tensors[change] = torch.zeros(1, CONDITION // 2)
    torch.save(tensors, file)
    if change == "text":
        file.write_text("not a checkpoint")
    names = {"missing": "attn.out_proj.bias", "shape": "cond_proj.2.bias", "nothing": "conv_in", "text": "state dict"}
    with pytest.raises(UserError, match=f"Pong.pt.*{names.get(change, change)}"):
        diamond.read(file)
