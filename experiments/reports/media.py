"""Video files and pictures of imagined futures: MP4, GIF, labelled grids, error heat maps and picture strips.

Frames are uint8 [time, height, width, channel]; everything composed here has three channels. A picture is a video of
one frame, so labels, images and videos are all cells of one `grid`.
"""

import functools
import pathlib
from collections.abc import Sequence
from fractions import Fraction
from typing import BinaryIO

import av
import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER = (255, 255, 255)
INK = (34, 34, 34)
CONTEXT_COLOR = (0xE6, 0x9F, 0x00)
"""Frame around what the model was shown, orange; what it imagined has none."""


def write_mp4(path: str | pathlib.Path, frames: np.ndarray, fps: float, *, min_side: int = 0, crf: int = 14) -> None:
    """Writes a video every browser plays: H.264, yuv420p, BT.709, even sizes (the last row or column repeats).

    Args:
      path: the file to write; its folder exists.
      frames: uint8 [t, h, w, 3] (or 1 channel), t at least 1.
      fps: frames per second.
      min_side: pixels are repeated by the smallest integer that makes the short side at least this long; 0 leaves them.
      crf: x264's constant rate factor: 0 is lossless, 14 hard to tell from it.
    """
    frames = upscale(to_rgb(frames), min_side)
    height, width = frames.shape[1:3]
    frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": str(crf), "preset": "medium"}
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def write_gif(path: str | pathlib.Path | BinaryIO, frames: np.ndarray, fps: float, *, min_side: int = 0) -> None:
    """Writes a GIF that loops for ever. One palette for all frames and no dithering keep still areas still.

    Repeated frames become one that lasts longer. Times are rounded to 1/100 s, at least 2/100, as browsers do.

    Args:
      path: the file to write; its folder exists.
      frames: uint8 [t, h, w, 3] (or 1 channel), t at least 1.
      fps: frames per second.
      min_side: as in `write_mp4`.
    """
    frames = upscale(to_rgb(frames), min_side)
    indices, palette = _quantize(frames)
    pictures = [Image.fromarray(index) for index in indices]
    for picture in pictures:
        picture.putpalette(palette.tobytes())
    duration = max(2, round(100 / fps)) * 10
    pictures[0].save(
        path, format="GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0, optimize=False
    )


def write_png(path: str | pathlib.Path | BinaryIO, picture: np.ndarray) -> None:
    """Writes a uint8 [h, w, 3] picture."""
    Image.fromarray(picture).save(path, format="PNG", optimize=True)


def to_rgb(frames: np.ndarray) -> np.ndarray:
    """uint8 [..., 1 or 3] to [..., 3]; raises ValueError for anything else."""
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.shape[-1] not in (1, 3):
        raise ValueError(f"frames must be uint8 with 1 or 3 channels, not {frames.dtype} of shape {frames.shape}")
    return np.repeat(frames, 3, axis=-1) if frames.shape[-1] == 1 else frames


def upscale(frames: np.ndarray, min_side: int) -> np.ndarray:
    """Repeats pixels of [t, h, w, c] by the smallest integer that makes the short side at least `min_side` long."""
    factor = max(1, -(-min_side // min(frames.shape[1:3])))
    return frames if factor == 1 else frames.repeat(factor, axis=1).repeat(factor, axis=2)


def fit(frames: np.ndarray, min_side: int, max_side: int) -> np.ndarray:
    """RGB frames at a size for looking: small ones `upscale`d, large ones averaged to a long side of `max_side`."""
    frames = upscale(to_rgb(frames), min_side)
    scale = max_side / max(frames.shape[1:3])
    if scale >= 1 or min(frames.shape[1:3]) * scale < min_side:
        return frames
    size = (round(frames.shape[2] * scale), round(frames.shape[1] * scale))
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])


def error_heatmap(prediction: np.ndarray, truth: np.ndarray, full_scale: float = 0.25) -> np.ndarray:
    """|prediction - truth|, averaged over channels, in the "magma" colours: [..., h, w, 3].

    Args:
      prediction, truth: uint8 [..., h, w, c].
      full_scale: the error, in units of images in 0..1, that is drawn brightest; 0 is black.
    """
    error = np.abs(prediction.astype(np.float32) - truth.astype(np.float32)).mean(axis=-1) / 255
    return heatmap(error / full_scale)


def spread_heatmap(samples: np.ndarray, full_scale: float = 0.25) -> np.ndarray:
    """Standard deviation over uint8 samples [s, t, h, w, c], drawn as `error_heatmap` does: [t, h, w, 3]."""
    return heatmap(samples.astype(np.float32).std(axis=0).mean(axis=-1) / 255 / full_scale)


def heatmap(values: np.ndarray) -> np.ndarray:
    """Values [...] (clipped to 0..1) to uint8 colours [..., 3], from black over purple and orange to pale yellow."""
    colors = (matplotlib.colormaps["magma"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return colors[np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)]


def border(frames: np.ndarray, framed: np.ndarray | bool = False, width: int = 4) -> np.ndarray:
    """Sets RGB frames [t, h, w, 3] into a margin: `CONTEXT_COLOR` where `framed` (bool [t]), paper elsewhere."""
    t, h, w, _ = frames.shape
    margin = np.where(np.broadcast_to(framed, (t,))[:, None], CONTEXT_COLOR, PAPER).astype(np.uint8)
    canvas = np.broadcast_to(margin[:, None, None], (t, h + 2 * width, w + 2 * width, 3)).copy()
    canvas[:, width : width + h, width : width + w] = frames
    return canvas


def text_cell(text: str, width: int, height: int = 22, *, size: int = 14, align: str = "center") -> np.ndarray:
    """A line of text, cut with an ellipsis where it is too long, as a picture [1, height, width, 3].

    Args:
      text: what to write; Pillow's default font has the Latin alphabet.
      width, height: of the picture, in pixels.
      size: of the font, in pixels.
      align: "left", "center" or "right".
    """
    font, room = _font(size), width - 4
    if font.getlength(text) > room:
        while text and font.getlength(text + "…") > room:
            text = text[:-1]
        text += "…"
    picture = Image.new("RGB", (width, height), PAPER)
    x, anchor = {"left": (2, "lm"), "center": (width / 2, "mm"), "right": (width - 2, "rm")}[align]
    ImageDraw.Draw(picture).text((x, height / 2), text, fill=INK, font=font, anchor=anchor)
    return np.asarray(picture)[None]


def text_width(texts: Sequence[str], size: int = 14) -> int:
    """Pixels that the longest of the texts needs in a `text_cell`."""
    return max((round(_font(size).getlength(t)) for t in texts), default=0) + 8


def labelled(text: str, frames: np.ndarray) -> np.ndarray:
    """RGB frames [t, h, w, 3] with a line of text above them: [t, h + 22, w, 3]."""
    return grid([[text_cell(text, frames.shape[2])], [frames]], gutter=0)


def grid(rows: Sequence[Sequence[np.ndarray | None]], gutter: int = 4) -> np.ndarray:
    """Lays cells out in rows and columns on paper, each in the middle of its place.

    Args:
      rows: RGB cells [t, h, w, 3], all of one t or of t = 1 (stands still); None leaves a place empty.
      gutter: pixels between cells.

    Returns:
      uint8 [t, height, width, 3].
    """
    columns = max(len(row) for row in rows)
    cells = [(i, j, cell) for i, row in enumerate(rows) for j, cell in enumerate(row) if cell is not None]
    heights, widths = [0] * len(rows), [0] * columns
    for i, j, cell in cells:
        heights[i], widths[j] = max(heights[i], cell.shape[1]), max(widths[j], cell.shape[2])
    size = (sum(heights) + gutter * (len(rows) - 1), sum(widths) + gutter * (columns - 1))
    canvas = np.empty((max(len(cell) for _, _, cell in cells), *size, 3), np.uint8)
    canvas[:] = PAPER
    for i, j, cell in cells:
        h, w = cell.shape[1:3]
        top = sum(heights[:i]) + gutter * i + (heights[i] - h) // 2
        left = sum(widths[:j]) + gutter * j + (widths[j] - w) // 2
        canvas[:, top : top + h, left : left + w] = cell
    return canvas


def side_by_side(cells: Sequence[np.ndarray], labels: Sequence[str], *, max_columns: int = 4) -> np.ndarray:
    """RGB videos of one size, each under its label, in even rows of at most `max_columns`: [t, height, width, 3]."""
    cells = [labelled(text, cell) for text, cell in zip(labels, cells, strict=True)]
    num_rows = -(-len(cells) // max_columns)
    columns = -(-len(cells) // num_rows)
    return grid([cells[i : i + columns] for i in range(0, len(cells), columns)], gutter=6)


def with_clock(frames: np.ndarray, num_context: int) -> np.ndarray:
    """Writes above RGB frames [t, h, w, 3] whether they are context or imagined, and the step."""
    horizon, width = len(frames) - num_context, frames.shape[2]
    texts = [f"context {i + 1} of {num_context}" for i in range(num_context)]
    texts += [f"imagined, step {i + 1} of {horizon}" for i in range(horizon)]
    return grid([[np.concatenate([text_cell(t, width) for t in texts])], [frames]])


def picture_strip(
    rows: Sequence[tuple[str, int, np.ndarray]], num_context: int, columns: Sequence[int], *, min_side: int = 96
) -> np.ndarray:
    """Moments side by side: a row per video, a column per time; context frames in orange, horizons as numbers above.

    Args:
      rows: of each video, its label, the time of its first frame and the frames, uint8 [t, h, w, c]; times
        that a video does not reach stay empty.
      num_context: number of context frames: time `num_context` is horizon 1.
      columns: times to show; see `strip_columns`.
      min_side: cells are enlarged to at least this many pixels.

    Returns:
      uint8 [height, width, 3].
    """
    label = functools.partial(text_cell, height=28, size=20)
    label_width = text_width([text for text, _, _ in rows] + ["horizon"], size=20)
    header = [label("horizon", label_width, align="right")]
    cells = [header + [label(str(t - num_context + 1), min_side) for t in columns]]
    for text, start, frames in rows:
        frames = fit(frames, min_side, 2 * min_side)
        row = [label(text, label_width, align="right")]
        for t in columns:
            there = start <= t < start + len(frames)
            row.append(border(frames[t - start][None], t < num_context) if there else None)
        cells.append(row)
    return grid(cells, gutter=2)[0]


def strip_columns(num_context: int, horizon: int, max_context: int = 3, max_horizons: int = 9) -> list[int]:
    """Times for `picture_strip`: the last context frames and horizons from 1, geometrically thinned out."""
    horizons = range(1, horizon + 1)
    if horizon > max_horizons:
        horizons = np.unique(np.rint(np.geomspace(1, horizon, max_horizons)).astype(int)).tolist()
    first = max(0, num_context - max_context)
    return [*range(first, num_context), *(num_context + h - 1 for h in horizons)]


def _quantize(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices uint8 [t, h, w] into at most 256 colours [n, 3], the nearest ones; exact where 256 are enough."""
    present = np.zeros(2**24, bool)
    for frame in frames:
        present[_pack(frame)] = True
    codes = np.flatnonzero(present)
    palette = colors = _unpack(codes)
    if len(colors) > 256:
        # The commonest colours stay as they are, so that backgrounds keep their tone; the rest count once each,
        # whatever area they fill, since what moves is small. Pillow would map colours to the palette coarsely.
        counts = np.bincount(_pack(frames[:, ::3, ::3]).ravel(), minlength=2**24)[codes]
        common = colors[np.argpartition(counts, -64)[-64:]]
        each = Image.fromarray(colors.astype(np.uint8)[None])
        others = each.quantize(256 - 64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).getpalette()
        palette = np.concatenate([common, np.array(others, np.float32).reshape(-1, 3)[: 256 - 64]])
    nearest = np.zeros(2**24, np.uint8)
    for start in range(0, len(codes), 2**16):
        part = slice(start, start + 2**16)
        distance = (palette**2).sum(axis=-1) - 2 * colors[part] @ palette.T
        nearest[codes[part]] = distance.argmin(axis=-1)
    return np.stack([nearest[_pack(frame)] for frame in frames]), palette.astype(np.uint8)


def _pack(frame: np.ndarray) -> np.ndarray:
    """uint8 RGB [..., 3] as one int32 a pixel, 0xRRGGBB."""
    red, green, blue = (frame[..., i].astype(np.int32) for i in range(3))
    return red << 16 | green << 8 | blue


def _unpack(codes: np.ndarray) -> np.ndarray:
    """The inverse of `_pack`, as float32 [..., 3]."""
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.float32)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
