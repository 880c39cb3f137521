"""Videos, strips and the report, opened again: sizes, frame counts, contents, and nothing that leads outside."""

import base64
import html
import io
import re

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from experiments.reports import media, report
from experiments.reports.report import Futures

CONTEXT, HORIZON = 3, 5


def video(seed, time, size=(16, 20), channels=3):
    """A bright square that moves over a gradient: uint8 [time, h, w, c]."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((time, *size, channels), np.uint8)
    frames += np.linspace(30, 120, size[1]).astype(np.uint8)[None, None, :, None]
    top, left = rng.integers(0, 6, 2)
    for t in range(time):
        frames[t, top : top + 6, left + t : left + t + 6] = rng.integers(60, 256, channels)
    return frames


def futures(channels=3, branch_time=CONTEXT + HORIZON):
    videos = lambda seed, n, time: np.stack([video(seed + i, time, channels=channels) for i in range(n)])
    return Futures(
        num_context=CONTEXT,
        truth=videos(0, 6, CONTEXT + HORIZON),
        imagined=videos(10, 6, HORIZON),
        branch_truth=video(20, branch_time, channels=channels),
        branches=videos(30, 3, HORIZON),
        branch_labels=["left", "right", "a very long name of an action sequence <b>"],
        sample_truth=video(40, CONTEXT + HORIZON, channels=channels),
        samples=videos(50, 4, HORIZON),
    )


def metrics(imagined=22.0, low=0.001):
    rows = {"imagined": [imagined] * HORIZON, "copy_last": [20.0] * HORIZON, "mean_frame": [18.0] * HORIZON}
    return {
        "horizon": list(range(1, HORIZON + 1)),
        **{name: {k: list(v) for k, v in rows.items()} for name in ("psnr", "psnr_changed", "ssim", "ssim_changed")},
        "action_following": {"mean": 0.002, "low": low, "high": 0.003},
        "num_contexts": 6,
        "num_context_frames": CONTEXT,
        "changed_threshold": 8,
    }


def decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(stream)])
        return frames, stream.codec_context.name, stream.pix_fmt, float(stream.average_rate)


def write(folder, **kwargs):
    report.write_media(folder, kwargs.pop("futures", None) or futures(), fps=5)
    arguments = {"title": "t", "config": {}, "provenance": {}, "metrics": metrics(), "history": [], "fps": 5} | kwargs
    return report.write_report(folder, **arguments).read_text(encoding="utf-8")


def test_mp4_is_what_browsers_play_and_keeps_the_picture(tmp_path):
    frames = video(0, 7, size=(17, 23))
    media.write_mp4(tmp_path / "a.mp4", frames, 12.5, min_side=100)
    decoded, codec, pix_fmt, rate = decode(tmp_path / "a.mp4")
    assert (codec, pix_fmt, rate) == ("h264", "yuv420p", 12.5)
    assert decoded.shape == (7, 102, 138, 3)  # six times, already even
    expected = frames.repeat(6, axis=1).repeat(6, axis=2)
    assert np.abs(decoded.astype(int) - expected).mean() < 4
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays before all of it is there


def test_mp4_of_odd_grayscale_frames(tmp_path):
    frames = video(1, 4, size=(33, 65), channels=1)
    media.write_mp4(tmp_path / "a.mp4", frames, 10)
    decoded = decode(tmp_path / "a.mp4")[0]
    assert decoded.shape == (4, 34, 66, 3)
    assert np.abs(decoded[:, :33, :65].astype(int) - frames).mean() < 3
    assert np.ptp(decoded.astype(int), axis=-1).max() <= 4  # grey stays grey
    with pytest.raises(ValueError, match="1 or 3 channels"):
        media.write_mp4(tmp_path / "b.mp4", np.zeros((2, 8, 8, 4), np.uint8), 10)


def test_gif_reopens_frame_by_frame_and_still_areas_stay_still(tmp_path):
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 256, (1, 24, 24, 3), np.uint8), 6, axis=0)  # more than 256 colours
    for t in range(6):
        frames[t, 2:8, 2 * t : 2 * t + 6] = (40 * t, 255 - 40 * t, 128)
    media.write_gif(tmp_path / "a.gif", frames, 10, min_side=48)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.info["loop"] == 0
        assert gif.info["duration"] == 100
        reopened = np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(gif)])
    assert reopened.shape == (6, 48, 48, 3)
    assert np.abs(reopened[:, ::2, ::2].astype(int) - frames).mean() < 20
    assert (reopened[:, 20:] == reopened[:1, 20:]).all()


def test_gif_of_few_colours_is_exact(tmp_path):
    frames = video(3, 5, channels=1)
    media.write_gif(tmp_path / "a.gif", frames, 8)
    with Image.open(tmp_path / "a.gif") as gif:
        reopened = np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(gif)])
    np.testing.assert_array_equal(reopened, np.repeat(frames, 3, axis=-1))


def test_heatmaps_are_dark_without_error_and_bright_at_full_scale():
    truth = np.zeros((1, 4, 4, 3), np.uint8)
    prediction = truth.copy()
    prediction[0, 1, 1] = 64  # a quarter of the range
    prediction[0, 2, 2] = 16
    drawn = media.error_heatmap(prediction, truth).astype(int).sum(axis=-1)[0]
    assert drawn[0, 0] < 10 < drawn[2, 2] < 300 < 600 < drawn[1, 1]
    np.testing.assert_array_equal(drawn, media.error_heatmap(truth, prediction).astype(int).sum(axis=-1)[0])


def test_grid_places_every_cell_and_holds_still_pictures():
    cell = lambda value, t=3: np.full((t, 2, 4, 3), value, np.uint8)
    drawn = media.grid([[cell(10), None], [cell(30, t=1), cell(40)]], gutter=1)
    assert drawn.shape == (3, 5, 9, 3)
    assert (drawn[:, :2, :4] == 10).all()
    assert (drawn[:, :2, 4:] == 255).all()
    assert (drawn[:, 3:, :4] == 30).all()
    assert (drawn[:, 3:, 5:] == 40).all()


def test_picture_strip_shows_the_right_moments_and_frames_the_context():
    truth = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.full((8, 12, 12, 3), 20, np.uint8)
    imagined = 255 - truth[CONTEXT:]
    strip = media.picture_strip([("truth", 0, truth), ("mine", CONTEXT, imagined)], CONTEXT, [2, 3, 7], min_side=12)
    top, bottom = (np.unique(strip[y].reshape(-1, 3), axis=0).tolist() for y in (44, 74))
    assert all([v] * 3 in top for v in (40, 60, 140))
    assert list(media.CONTEXT_COLOR) in top
    assert all([v] * 3 in bottom for v in (255 - 60, 255 - 140))
    assert list(media.CONTEXT_COLOR) not in bottom


def test_strip_columns_keep_the_ends():
    assert media.strip_columns(4, 5) == [1, 2, 3, 4, 5, 6, 7, 8]
    many = media.strip_columns(2, 100)
    assert many[:3] == [0, 1, 2]
    assert many[-1] == 101
    assert len(many) <= 2 + 9
    assert many == sorted(set(many))


@pytest.mark.parametrize(("channels", "branch_time"), [(3, CONTEXT + HORIZON), (1, CONTEXT)])
def test_write_media_makes_every_file_with_every_moment(tmp_path, channels, branch_time):
    paths = report.write_media(tmp_path / "imagine", futures(channels, branch_time), fps=5)
    videos = ("futures", "branches", "samples")
    assert set(paths) == {v + s for v in videos for s in (".mp4", ".gif")} | {
        "strip.png",
        "branches.png",
        "samples.png",
    }
    for name in videos:
        frames, *_ = decode(paths[name + ".mp4"])
        assert len(frames) == CONTEXT + HORIZON
        orange = np.abs(frames.astype(int) - media.CONTEXT_COLOR).max(axis=-1) < 40
        shares = orange.mean(axis=(1, 2))
        assert shares[:CONTEXT].min() > 0.01 > 0.002 > shares[CONTEXT:].max()  # the frame is there, then gone
    for name in ("strip.png", "branches.png", "samples.png"):
        with Image.open(paths[name]) as picture:
            assert min(picture.size) > 96


def test_report_embeds_everything_and_leads_nowhere(tmp_path):
    history = [{"step": i, "train/loss": 1 / i} for i in range(1, 50)] + [{"step": 50, "eval/psnr": 20.0}]
    text = write(tmp_path, history=history, config={"seed": 7}, provenance={"git_revision": "abc123"})
    assert not re.search(r"https?://|<script|<link|<iframe|@import|url\(", text)
    assert set(re.findall(r'src="(?!data:)[^"]*', text)) == set()
    names = ["futures.mp4", "branches.mp4", "samples.mp4", "strip.png", "branches.png", "samples.png"]
    for name in [*names, "metrics.png", "training.png"]:
        assert base64.b64encode((tmp_path / name).read_bytes()).decode() in text
    assert text.count("<video controls loop autoplay muted playsinline") == 3
    assert '"seed": 7' in html.unescape(text)
    assert "abc123" in text
    picture = Image.open(io.BytesIO((tmp_path / "metrics.png").read_bytes())).convert("RGB")
    colors = np.unique(np.asarray(picture).reshape(-1, 3), axis=0).tolist()
    assert all(list(bytes.fromhex(c)) in colors for c in ("0072B2", "D55E00", "6B6B6B"))


def test_report_shows_what_training_made_of_the_weights_it_began_with(tmp_path):
    psnr = lambda step, *values: {
        "step": step,
        **{f"eval/open_loop/psnr_changed_imagined_{h}": x for h, x in zip((1, 4, 16), values)},
    }
    history = [psnr(0, 20.0, 18.0, 16.123), {"step": 1, "train/loss": 1.0}, psnr(5, 1.0, 1.0, 1.0), psnr(9, 25.0, 22.5)]
    text = write(tmp_path, history=history)
    table = text[text.index("Before and after") :]
    places = [table.index(x) for x in ("step 0", "step 9", "20.00", "25.00", "18.00", "22.50", "16.12")]
    assert places == sorted(places)
    assert "step 5" not in table
    assert "Before and after" not in write(tmp_path, history=history[1:])  # it began with none


def test_the_first_line_says_how_far_the_run_was_trained_and_wide_pictures_that_they_scroll(tmp_path):
    text = write(tmp_path, provenance={"step": 20}, config={"train": {"num_steps": 300}})
    assert re.search(r"</h1>\s*<p[^>]*>Trained for 20 of 300 steps\.</p>", text)
    assert text.count('class="hint"') == text.count("<img") > 0


def test_report_escapes_hostile_text(tmp_path):
    evil = "<script>alert('x')</script><img src=x onerror=\"y\">"
    text = write(tmp_path, title=evil, config={evil: evil}, provenance={evil: {"a": evil}, "b": evil})
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;" in text
    assert re.search(r"<title>&lt;script", text)


def test_report_needs_the_media(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"futures\.mp4.*write_media"):
        report.write_report(tmp_path, title="", config={}, provenance={}, metrics=metrics(), history=[], fps=5)


def test_verdict_says_where_the_model_wins():
    good, text = report.verdict(metrics())
    assert good
    assert "beat copying the last frame at every horizon from 1 to 5 (+2.00 dB" in text
    assert "follows its actions" in text

    mixed = metrics()
    mixed["psnr_changed"]["imagined"] = [None, 19.0, 21.0, 22.0, 19.5]
    good, text = report.verdict(mixed)
    assert not good
    assert "at 2 of 4 horizons: 3–4 (-1.00 dB at horizon 2, -0.50 dB at 5)" in text

    good, text = report.verdict(metrics(imagined=19.0))
    assert not good
    assert "beat copying the last frame at no horizon" in text


def test_verdict_needs_the_action_interval_above_zero():
    good, text = report.verdict(metrics(low=-0.001))
    assert not good
    assert "holds zero" in text
    unknown = metrics() | {"action_following": {"mean": None, "low": None, "high": None}}
    good, text = report.verdict(unknown)
    assert not good
    assert "could not be measured" in text


def test_report_of_undefined_numbers(tmp_path):
    nothing = metrics()
    nothing["psnr_changed"] = {name: [None] * HORIZON for name in nothing["psnr_changed"]}
    nothing["ssim_changed"]["imagined"][0] = None
    text = write(tmp_path, metrics=nothing)
    assert text.count("<td>–</td>") == 3 * HORIZON + 1
    assert "nothing to compare" in text
