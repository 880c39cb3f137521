"""Options of evaluation: blocks of `config.eval`. No JAX here."""

import dataclasses

from world_models.probes.options import PropagationOptions


@dataclasses.dataclass(frozen=True)
class HeldOutOptions:
    """The training loss on held-out examples.

    Attributes:
      num_examples: how many, evenly spaced over the validation split.
    """

    num_examples: int = 256


@dataclasses.dataclass(frozen=True)
class OpenLoopOptions:
    """Imagined futures from held-out contexts, measured during training.

    Attributes:
      num_contexts: how many.
      num_context: frames that the model is shown.
      horizon: frames that it imagines.
      horizons: at which errors are logged; those beyond `horizon` are left out.
      changed_threshold: by how much of 255 a pixel must change between two frames to count as changing.
      num_shown: contexts in the video for TensorBoard and Weights & Biases; 0 for none.
    """

    num_contexts: int = 32
    num_context: int = 4
    horizon: int = 8
    horizons: tuple[int, ...] = (1, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    changed_threshold: int = 8
    num_shown: int = 4


@dataclasses.dataclass(frozen=True)
class FuturesOptions:
    """What the command `imagine` makes of a model that imagines futures.

    Attributes:
      num_contexts, num_context, horizon, changed_threshold: as of `OpenLoopOptions`.
      num_shown: contexts in pictures and videos, at least 1.
      long: frames of longer futures for one more video, under recorded actions: the test split needs episodes of so
        many. 0 for none.
      policy: instead of recorded actions, a policy "package.module:function" that steers by the imagined frames.
      num_branches: futures of one context under different actions.
      num_samples: futures of one context under the same actions and different noise.
      fps: frames a second of videos.
    """

    num_contexts: int = 64
    num_context: int = 4
    horizon: int = 16
    long: int = 0
    policy: str = ""
    changed_threshold: int = 8
    num_shown: int = 4
    num_branches: int = 4
    num_samples: int = 4
    fps: float = 12.0


@dataclasses.dataclass(frozen=True)
class FeatureOptions:
    """The space in which sets of frames and clips are compared.

    Attributes:
      kind: "random", a fixed convolutional network with random weights; "encoder", that of another run of ours;
        "inception", an Inception-v3 from a file; "i3d", an I3D of whole clips from a file.
      path: the other run's folder, or the file, .safetensors or .npz.
      size: longer features are projected to so many numbers by a fixed random matrix; 0 for never.
    """

    kind: str = "random"
    path: str = ""
    size: int = 64


@dataclasses.dataclass(frozen=True)
class DistanceOptions:
    """Distances between sets of imagined and of real clips, and how much futures of one context differ.

    Attributes:
      num_clips: of each set, one a context; 0 for no such measure.
      length: frames of a clip.
      num_samples: futures of one context under the same actions; 0 for no such measure.
      lpips: file with the weights of LPIPS; empty for none.
    """

    num_clips: int = 0
    length: int = 8
    num_samples: int = 4
    lpips: str = ""


@dataclasses.dataclass(frozen=True)
class LongRolloutOptions:
    """How long futures stay like real frames and follow actions.

    Attributes:
      frames: imagined in a row; 0 for no such measure. Where `horizons` end before, actions begin again.
      num_contexts: how many futures, at least 2; intervals need 3.
      window: frames of the clips that are compared with real ones.
      num_reference: real clips that they are compared with.
      horizons: up to which action following is measured, each from the one before; the truth must be as long.
    """

    frames: int = 0
    num_contexts: int = 16
    window: int = 16
    num_reference: int = 256
    horizons: tuple[int, ...] = (10, 100, 500)


@dataclasses.dataclass(frozen=True)
class ReconstructionOptions:
    """What the command `imagine` makes of a model that reconstructs.

    Attributes:
      num_shown: examples in pictures and videos.
      fps: frames a second of videos.
    """

    num_shown: int = 12
    fps: float = 8.0


@dataclasses.dataclass(frozen=True)
class ProbeOptions:
    """Probes of an encoder.

    Attributes:
      names: which: "ridge", "knn", "linear", and "few_labels", ridge on `shots` labels a class, on frozen features;
        "fine_tune".
      label_key: path of the label inside an example.
      more_label_keys: paths of further labels; the probes of frozen features of each have its name behind their own.
      pool: "mean" of the patch tokens, or "class" for the class token; of an encoder with maps "mean" or "quadrants".
      num_train, num_test: examples of the training and of the test split, at random; 0 for all.
      baselines: whether raw pixels, random features and the untrained encoder are measured as well.
      shots: labels a class that "fine_tune" and "few_labels" train on; 0 for all.
    """

    names: tuple[str, ...] = ("ridge",)
    label_key: str = "label"
    more_label_keys: tuple[str, ...] = ()
    pool: str = "mean"
    num_train: int = 0
    num_test: int = 0
    baselines: bool = True
    shots: tuple[int, ...] = (10, 100)


@dataclasses.dataclass(frozen=True)
class TrackingOptions:
    """J and F of instance masks that an encoder's features carry through clips of the test split.

    Attributes:
      num_clips: how many, evenly spaced over the split; 0 for no such measure.
      length: frames of a clip, the first with its mask given; 0 for whole episodes of the shortest one's length.
      instances_key: path of the masks in a step: the number of every pixel's object, 0 for the background.
      num_shown: clips in the picture.
      propagation: how labels are copied.
    """

    num_clips: int = 0
    length: int = 0
    instances_key: str = "observation/instances"
    num_shown: int = 4
    propagation: PropagationOptions = PropagationOptions()


@dataclasses.dataclass(frozen=True)
class LinearProbeOptions:
    """MAE's linear probe (He et al. 2021, appendix A.1).

    Attributes:
      batch_size, epochs, warmup_epochs: of its training.
      base_learning_rates: tried, for a batch of 256; a tenth of the training set chooses.
    """

    batch_size: int = 1024
    epochs: int = 100
    warmup_epochs: int = 5
    base_learning_rates: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclasses.dataclass(frozen=True)
class FineTuneOptions:
    """Fine-tuning of a pretrained encoder on labels (MAE, appendix A.1, table 9).

    Attributes:
      batch_size, num_steps: of the training.
      learning_rate, warmup_steps, weight_decay: AdamW's; the rate warms up and falls to 0 along half a cosine.
      layer_decay: factor of the learning rate from a block to the one below it.
      trained_blocks: how many of the last blocks are trained; -1 for all, and the embeddings.
      drop_path: how often the last block's branches are left out (stochastic depth).
      label_smoothing: share of the label that is spread over all classes.
      mixup, cutmix: their alphas; 0 for none.
      crop_scale: (least, greatest) share of the area of random crops; () for none.
      flip: whether half of the clips are mirrored.
      randaugment_ops, randaugment_magnitude: of RandAugment; 0 operations for none.
    """

    batch_size: int = 64
    num_steps: int = 400
    learning_rate: float = 1e-3
    warmup_steps: int = 40
    weight_decay: float = 0.05
    layer_decay: float = 0.75
    trained_blocks: int = -1
    drop_path: float = 0.1
    label_smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    crop_scale: tuple[float, ...] = ()
    flip: bool = True
    randaugment_ops: int = 0
    randaugment_magnitude: float = 9.0


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """When a run is evaluated, and which checkpoint is its best; families add what they measure.

    Attributes:
      every: training steps between evaluations; 0 for none during training.
      first: whether to evaluate before the first step as well, to see what training made of `config.init_from`.
      best: metric by which a checkpoint is kept as the best; empty for none.
      better: "lower" or "higher".
      held_out: the training loss on held-out examples.
    """

    every: int = 0
    first: bool = False
    best: str = "eval/held_out/loss"
    better: str = "lower"
    held_out: HeldOutOptions = HeldOutOptions()
