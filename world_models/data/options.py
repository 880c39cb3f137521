"""Options of recordings and of data sets: the blocks `config.record` and `config.data`. No JAX here."""

import dataclasses
from typing import Any

from world_models.core.options import OneOf


def _splits(train: float, validation: float, test: float) -> Any:
    shares = {"train": train, "validation": validation, "test": test}
    return dataclasses.field(default_factory=lambda: {name: share for name, share in shares.items() if share})


SPLITS = {"train": 0.9, "validation": 0.05, "test": 0.05}
"""Shares of the documents of files."""

VOCABULARY_SIZE = 8192
"""Pieces of a WordPiece vocabulary that is trained here, unless a config says otherwise: a multiple of 128."""

FIT = "crop"
"""What all sources do by default with images whose proportions are not those of `image_size`."""


@dataclasses.dataclass(frozen=True)
class GymnasiumRecording:
    """Episodes of a Gymnasium environment.

    Attributes:
      environment: its id.
      environment_kwargs: for `gymnasium.make`.
      modules: modules to import first, which register it.
      observation: "render" records rendered frames, "observation" the environment's own image observations.
      observation_key: path of the image in observations that are dictionaries, such as "camera/front"; empty for none.
      image_size: (height, width) of the recorded frames.
      fit: what is done with frames of other proportions: "crop" cuts off the sides, "pad" adds black ones, "stretch"
        distorts.
      action_repeat: environment steps for which each action is held. A step that a time limit cuts short is left out.
      reset_options: `options` of every `reset`, such as a fixed goal or layout; empty for none.
      policy: "random", "sticky" (repeats its action with `repeat_probability`), or "package.module:function".
      repeat_probability: of the policy "sticky".
      num_episodes: how many.
      max_episode_steps: recorded steps after which an episode is cut.
      skip_steps: recorded steps at the beginning of an episode that are played and not kept.
      reuse_environment: whether a worker keeps one environment for all its episodes instead of making a new one for
        each: faster where starting it is slow, and right only if a reset forgets everything.
      instances: whether the number of the body that every pixel shows is stored beside the frames, as
        "observation/instances"; of Gymnasium's MuJoCo environments alone.
      num_workers: processes that record; 0 for one a core.
      splits: share of the episodes by split; they add up to 1.
      seed: of the first episode; each has its own.
    """

    environment: str
    environment_kwargs: dict = dataclasses.field(default_factory=dict)
    modules: tuple[str, ...] = ()
    observation: str = "render"
    observation_key: str = ""
    image_size: tuple[int, int] = (64, 64)
    fit: str = FIT
    reset_options: dict = dataclasses.field(default_factory=dict)
    action_repeat: int = 1
    policy: str = "random"
    repeat_probability: float = 0.0
    num_episodes: int = 400
    max_episode_steps: int = 1000
    skip_steps: int = 0
    reuse_environment: bool = False
    instances: bool = False
    num_workers: int = 0
    splits: dict = _splits(0.9, 0.05, 0.05)
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class VideosRecording:
    """A folder of video files, each with a table of actions beside it or without.

    Attributes:
      videos: the folder.
      skip: names of files in it to leave out, such as ("broken.mp4",).
      image_size: (height, width) of the recorded frames.
      fit: as of `GymnasiumRecording`.
      fps: frames a second: of each moment the frame that was shown then; 0 takes the frames as they come, which must
        be at a constant rate.
      frame_stride: one frame in so many is kept.
      max_episode_steps: a longer video becomes several episodes; 0 for no limit.
      num_workers, splits, seed: as of `GymnasiumRecording`.
    """

    videos: str
    skip: tuple[str, ...] = ()
    image_size: tuple[int, int] = (64, 64)
    fit: str = FIT
    fps: float = 0.0
    frame_stride: int = 1
    max_episode_steps: int = 0
    num_workers: int = 0
    splits: dict = _splits(0.9, 0.05, 0.05)
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class DigitsRecording:
    """All images of MNIST, from a package.

    Attributes:
      image_size: (height, width); 28x28 is the original.
      fit: as of `GymnasiumRecording`.
      num_episodes: images a split; 0 for all.
      seed: of the choice.
    """

    image_size: tuple[int, int] = (28, 28)
    fit: str = FIT
    num_episodes: int = 0
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class FashionRecording(DigitsRecording):
    """All images of Fashion-MNIST, from a package."""


@dataclasses.dataclass(frozen=True)
class EmojiRecording:
    """Pictures of emoji with their groups as labels, from a package.

    Attributes:
      image_size, fit, num_episodes, seed: as of `DigitsRecording`.
      splits: share of the images by split.
    """

    image_size: tuple[int, int] = (64, 64)
    fit: str = FIT
    num_episodes: int = 0
    splits: dict = _splits(0.9, 0.0, 0.1)
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class ImagesRecording:
    """A folder of image files, one subfolder a class.

    Attributes:
      images: the folder.
      image_size, fit, num_episodes, splits, seed: as of `EmojiRecording`.
    """

    images: str
    image_size: tuple[int, int] = (64, 64)
    fit: str = FIT
    num_episodes: int = 0
    splits: dict = _splits(0.9, 0.0, 0.1)
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class MovingDigitsRecording:
    """Procedural clips of moving digits with instance masks and labels of what moves, where to and how fast.

    Attributes:
      digits: "mnist" or "fashion_mnist", whose images move.
      num_objects: in a clip.
      num_frames: of a clip.
      speed: pixels a frame, of the fastest: the slower, the more redundant in time.
      num_speeds: how many speeds there are, evenly spaced, one a clip.
      friction: share of its speed that an object loses from frame to frame; above 0 time has a direction.
      color: whether objects and background have smooth random colours; else they are grey on black.
      image_size: (height, width).
      num_episodes: clips.
      splits: share of the clips by split.
      seed: of all clips.
    """

    digits: str = "mnist"
    num_objects: int = 1
    num_frames: int = 8
    speed: float = 1.0
    num_speeds: int = 1
    friction: float = 0.0
    color: bool = False
    image_size: tuple[int, int] = (32, 32)
    num_episodes: int = 6000
    splits: dict = _splits(0.667, 0.0, 0.333)
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class WorldRecording:
    """Episodes of a world written in JAX; what its data policy does is added by the subclasses.

    Attributes:
      num_episodes: how many.
      num_frames: of an episode.
      image_size: (height, width).
      splits: share of the episodes by split.
      seed: of all episodes.
    """

    num_episodes: int = 1000
    num_frames: int = 128
    image_size: tuple[int, int] = (32, 32)
    splits: dict = _splits(0.9, 0.05, 0.05)
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class TwoRoomsRecording(WorldRecording):
    """Random walks in two rooms.

    Attributes:
      cross_rate: share of the episodes that are built to lead through the door.
      wall: "fixed", or "random" as published, which takes a larger model and a longer training.
    """

    cross_rate: float = 0.35
    wall: str = "fixed"


@dataclasses.dataclass(frozen=True)
class FourRoomsRecording(WorldRecording):
    """Episodes in four rooms with a distractor.

    Attributes:
      expert_share: share of the episodes that a noisy expert plays; an explorer plays the others.
    """

    expert_share: float = 0.5


@dataclasses.dataclass(frozen=True)
class PointMazeRecording(WorldRecording):
    """Episodes in one of OGBench's point mazes.

    Attributes:
      maze: "medium", "large", "giant" or "teleport"'s map without teleports.
      policy: "navigate", an expert that goes from goal to goal.
      noise: standard deviation of the noise on the expert's actions.
      action_repeat: steps of the benchmark in one step here.
    """

    maze: str = "medium"
    policy: str = "navigate"
    noise: float = 0.5
    action_repeat: int = 5


@dataclasses.dataclass(frozen=True)
class TextRecording:
    """Texts from a package.

    Attributes:
      num_episodes: texts of all splits together, at random; 0 for all.
      splits: share of the texts by split; equal texts are in the same.
      seed: of the choice and the splits.
    """

    num_episodes: int = 0
    splits: dict = _splits(0.9, 0.05, 0.05)
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class BrownRecording(TextRecording):
    """The Brown corpus: 500 documents with genres and parts of speech."""


@dataclasses.dataclass(frozen=True)
class WordNetRecording(TextRecording):
    """Glosses and examples of WordNet, labelled by part of speech."""


@dataclasses.dataclass(frozen=True)
class GCIDERecording(TextRecording):
    """Entries of a dictionary, GCIDE."""


@dataclasses.dataclass(frozen=True)
class SpamSubjectsRecording(TextRecording):
    """Subjects of mails, labelled as spam or not."""


@dataclasses.dataclass(frozen=True)
class HeadlinesRecording(TextRecording):
    """Headlines of BBC News in five classes."""


RECORDING = OneOf(
    "source",
    {
        "gymnasium": GymnasiumRecording,
        "videos": VideosRecording,
        "fashion_mnist": FashionRecording,
        "mnist": DigitsRecording,
        "emoji": EmojiRecording,
        "images": ImagesRecording,
        "moving_digits": MovingDigitsRecording,
        "two_rooms": TwoRoomsRecording,
        "four_rooms": FourRoomsRecording,
        "point_maze": PointMazeRecording,
        "brown": BrownRecording,
        "wordnet": WordNetRecording,
        "gcide": GCIDERecording,
        "spam_subjects": SpamSubjectsRecording,
        "headlines": HeadlinesRecording,
    },
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What data of all kinds have in common.

    Attributes:
      dataset: directory or TFDS name; empty for `<workdir>/data`, where `record` writes.
      mixture: instead of `dataset`, several with their weights: (("a", 0.7), ("b", 0.3)).
      train_split, validation_split, test_split: names of splits; of TFDS data sets slices such as "train[:10%]" too.
    """

    dataset: str = ""
    mixture: tuple[tuple[str, float], ...] = ()
    train_split: str = "train"
    validation_split: str = "validation"
    test_split: str = "test"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipDataOptions(DataOptions):
    """Clips of a data set of episodes, images or videos.

    Attributes:
      dataset, mixture, train_split, validation_split, test_split: as of `DataOptions`.
      image_key: path of the frames inside a step, or inside an example of an image data set.
      action_key: path of the action inside a step; several paths, comma-separated, are concatenated.
      image_size: (height, width) that frames are resized to; () leaves them.
      num_actions: number of discrete actions where the data set does not declare it; 0: largest of all splits + 1.
      observation_keys: paths of further fields of a step, for `Clip.observations`.
      text_key: path of a text in an example or a step, for `Clip.text`; empty for none.
      text_length: tokens of that text.
      tokenizer: "characters" or "wordpiece", of the texts in the training split.
      clip_length: frames of a training clip.
      stride: frames between the starts of neighbouring clips.
      across_episodes: whether clips may run over the end of an episode into the next; not for models of actions.
    """

    image_key: str = "observation/image"
    action_key: str = "action"
    image_size: tuple[int, ...] = ()
    num_actions: int = 0
    observation_keys: tuple[str, ...] = ()
    text_key: str = ""
    text_length: int = 64
    tokenizer: str = "characters"
    clip_length: int = 16
    stride: int = 1
    across_episodes: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextDataOptions(DataOptions):
    """Chunks of text, of .txt and .jsonl files (also folders of them) or of a TFDS data set.

    Attributes:
      dataset, mixture, train_split, validation_split, test_split: as of `DataOptions`.
      text_key: path of the text in an example, or its key in a line of a .jsonl file.
      splits: share of the documents by split, of files that are not called as a split; they add up to 1.
      text_length: tokens of a chunk.
      stride: tokens between the starts of neighbouring chunks; 0 for `text_length`.
      tokenizer: "characters" or "wordpiece", of the training split.
    """

    text_key: str = "text"
    splits: dict = dataclasses.field(default_factory=lambda: dict(SPLITS))
    text_length: int = 128
    stride: int = 0
    tokenizer: str = "characters"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTextDataOptions(DataOptions):
    """Images with a text each.

    Attributes:
      dataset, mixture, train_split, validation_split, test_split: as of `DataOptions`.
      image_key: path of the image in an example.
      image_size: (height, width) that images are resized to; () leaves them.
      text_key: path of the text, or of a label whose classes have names.
      text_length: tokens of a text.
      tokenizer: "characters" or "wordpiece", of the texts in the training split.
    """

    image_key: str = "image"
    image_size: tuple[int, ...] = ()
    text_key: str = "caption"
    text_length: int = 64
    tokenizer: str = "characters"
