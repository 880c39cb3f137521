"""Options of training: the blocks `config.train`, `config.init_from` and `config.runtime`. No JAX here."""

import dataclasses

from world_models.nn.options import ComputeOptions


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """AdamW with clipping by the global norm.

    Attributes:
      learning_rate: at its peak.
      schedule: "constant", or "cosine" down to 0 at the last step.
      warmup_steps: steps of a linear warm-up.
      weight_decay: of kernels; biases, norms and embeddings have none.
      b1, b2, eps: of Adam.
      clip_norm: largest global norm of a gradient.
    """

    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 1e-2
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    clip_norm: float = 1.0


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """What training makes of the weights.

    Attributes:
      batch_size: examples of the global batch.
      accumulate: parts that a batch is computed in, one after another.
      num_steps: updates; the only field outside `eval` and `runtime` that may change when a run is resumed.
      ema_decay: of the moving average of the weights, which is evaluated; 0 for the weights themselves.
      optimizer: of all parameters, where an experiment names no others.
    """

    batch_size: int = 32
    accumulate: int = 1
    num_steps: int = 1000
    ema_decay: float = 0.999
    optimizer: OptimizerOptions = OptimizerOptions()


@dataclasses.dataclass(frozen=True)
class InitFromOptions:
    """Weights of another run to begin with.

    Attributes:
      checkpoints: folder of its checkpoints; empty for none.
      step: which one; -1 for the newest.
      parts: dotted names of modules of that run; all if empty.
      under: dotted name of the module of this model that they belong to, "tokenizer" say; empty for the model itself.
    """

    checkpoints: str = ""
    step: int = -1
    parts: tuple[str, ...] = ()
    under: str = ""


@dataclasses.dataclass(frozen=True)
class RuntimeDataOptions:
    """How data are loaded.

    Attributes:
      cache_gb: memory for decoded frames; a split that fits is decoded once.
      num_threads: that load batches.
      max_damaged: damaged records that are skipped before training stops.
    """

    cache_gb: float = 2.0
    num_threads: int = 1
    max_damaged: int = 0


@dataclasses.dataclass(frozen=True)
class WandbOptions:
    """Weights & Biases; what is empty is as its own environment variables say.

    Attributes:
      enabled: whether metrics go there too.
      project, entity, group, tags: of the run.
      mode: "online", "offline" or "disabled".
    """

    enabled: bool = False
    project: str = ""
    entity: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()
    mode: str = ""


@dataclasses.dataclass(frozen=True)
class RuntimeOptions:
    """What concerns the machine alone; all of it may change when a run is resumed.

    Attributes:
      mesh: devices along (data, fsdp, tensor); one of them may be -1 and takes what is left.
      sharding: (name of a parameter's axis, mesh axis to split it over), the more important first.
      xla_flags: space-separated, such as "--xla_gpu_enable_latency_hiding_scheduler=true".
      profile: whether the fourth step is traced to <workdir>/profile.
      wandb: Weights & Biases.
      log_every, checkpoint_every: steps between log lines and between checkpoints.
      keep, keep_every: how many of the newest checkpoints stay, and which multiples of a step stay besides; 0 for none.
      max_nonfinite: updates in a row that may be skipped as not finite before training stops.
      spike_sigmas: running standard deviations above the mean loss that count as a spike; 0 for never.
      watchdog_seconds: without a finished step until the process ends; 0 for never.
      data: how data are loaded.
      compute: how transformers are computed.
    """

    mesh: tuple[int, int, int] = (-1, 1, 1)
    sharding: tuple[tuple[str, str], ...] = (
        ("heads", "tensor"),
        ("mlp", "tensor"),
        ("width", "fsdp"),
        ("condition", "fsdp"),
        ("channels_out", "fsdp"),
        ("channels_in", "fsdp"),
    )
    xla_flags: str = ""
    profile: bool = False
    wandb: WandbOptions = WandbOptions()
    log_every: int = 50
    checkpoint_every: int = 1000
    keep: int = 2
    keep_every: int = 0
    max_nonfinite: int = 3
    spike_sigmas: float = 6.0
    watchdog_seconds: float = 600.0
    data: RuntimeDataOptions = RuntimeDataOptions()
    compute: ComputeOptions = ComputeOptions()
