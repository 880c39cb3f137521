"""The server of the play page over real sockets, without a browser."""

import io
import json
import os
import time
import urllib.error
import urllib.request

import av
import numpy as np
import pytest
from PIL import Image
from toy_scene import LEFT, RIGHT, SIDE, Client, ToySimulator, column, frame_of, get, gone, serving, toy_scene

from experiments.play import downloads, uploads
from world_models.data.stored_episodes import Episodes


def test_frames_move_under_the_held_action(server):
    with Client(server[0]) as client:
        client.begun()
        assert column(client.frames[0][1]) == 0
        client.send("input", seq=5, action=RIGHT)
        client.send("play", on=True)
        header, images = client.until("frame", lambda h: h["depth"] == 4)
        assert (column(images), header["seq"], header["reward"]) == (4, 5, 4.0)
        client.send("input", seq=6, action=LEFT)
        before, _ = client.until("frame", lambda h: h["seq"] == 6)
        after, images = client.until("frame", lambda h: h["depth"] == before["depth"] + 2)
        assert column(images) == column(client.frames[-3][1]) - 2
        assert after["model_ms"] > 0


def test_a_short_tap_counts_once(server):
    with Client(server[0]) as client:
        client.begun()
        for action in (RIGHT, 0):
            client.send("input", seq=1 + action, action=action)
        for _ in range(3):
            client.send("step")
        _, images = client.until("frame", lambda h: h["depth"] == 3)
        assert column(images) == 1


def test_pause_step_back_and_the_same_again(server):
    with Client(server[0]) as client:
        client.begun()
        client.send("input", seq=1, action=RIGHT)
        frames = []
        for depth in (1, 2, 3):
            client.send("step")
            frames.append(client.until("frame", lambda h, d=depth: h["depth"] == d)[1]["model"])
        client.send("back", count=2)
        client.until("frame", lambda h: h["depth"] == 1)
        client.send("step")
        header, images = client.until("frame", lambda h: h["depth"] == 2)
        np.testing.assert_array_equal(images["model"], frames[1])  # same state, seed and action
        assert header["branch"] == 1
        client.send("set", name="seed", value=9)
        client.until("status", lambda h: h["settings"]["seed"] == 9)
        client.send("back", count=1)
        client.send("step")
        client.until("frame", lambda h: h["depth"] == 1)
        _, images = client.until("frame", lambda h: h["depth"] == 2)
        assert (images["model"] != frames[1]).any()
        client.send("goto", branch=0)
        _, images = client.until("frame", lambda h: h["depth"] == 3)
        np.testing.assert_array_equal(images["model"], frames[2])


def test_eight_futures_and_one_is_taken(server):
    with Client(server[0]) as client:
        client.begun()
        client.send("set", name="horizon", value=5)
        client.send("futures")
        header, images = client.until("futures")
        assert (header["horizon"], len(images)) == (5, 8)
        strips = [np.frombuffer(images[str(i)], np.uint8).reshape(SIDE, 5 * SIDE, 3) for i in range(8)]
        assert len({strip.tobytes() for strip in strips}) > 2
        client.send("take", index=1)
        header, images = client.until("frame", lambda h: h["depth"] == 5)
        np.testing.assert_array_equal(images["model"], strips[1][:, -SIDE:])
        tree, _ = client.until("tree")
        assert len(tree["branches"]) == 2


def test_settings_of_the_model_change_while_it_runs(server):
    with Client(server[0]) as client:
        client.begun()
        client.send("play", on=True)
        assert client.until("frame", lambda h: h["depth"] == 2)[1]["model"][-1].any()
        client.send("set", name="loud", value=0)
        client.until("status", lambda h: h["settings"]["loud"] == 0, timeout=60)
        depth = client.frames[-1][0]["depth"]
        assert not client.until("frame", lambda h: h["depth"] == depth + 3)[1]["model"][-1].any()


def test_a_page_that_shows_nothing_gets_two_frames_and_no_queue(server):
    with Client(server[0], acknowledge=False) as client:
        client.begun()
        client.send("play", on=True)
        client.receive()
        with pytest.raises(TimeoutError):
            client.drain(0.5)
        assert [header["tick"] for header, _ in client.frames] == [1, 2]
        client.send("ack", tick=2)
        assert client.until("frame")[0]["depth"] == 2


def test_the_simulator_keeps_step_and_tells_how_far_they_are_apart():
    made = []

    def simulator():
        made.append(ToySimulator(0.02))
        return made[-1]

    with serving(toy_scene(simulator)) as (address, players):
        players.warm()
        with Client(address) as client:
            client.begun()
            client.until("frame", lambda h: h["psnr"] == 99.0)
            client.send("input", seq=1, action=RIGHT)
            client.send("play", on=True)
            header, images = client.until("frame", lambda h: h["depth"] == 6 and h["psnr"] is not None)
            np.testing.assert_array_equal(images["simulator"], frame_of(6))
            error = np.mean((images["model"].astype(float) - frame_of(6)) ** 2)
            assert header["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=0.01)
            assert header["truth_reward"] == 6.0
            client.send("back", count=3)
            client.send("input", seq=2, action=LEFT)
            client.send("step")
            _, images = client.until("frame", lambda h: h["branch"] == 1 and h["psnr"] is not None)
            assert int(images["simulator"][0, :, 0].argmax()) == column(images)
            client.send("resync")
            client.until("frame", lambda h: h["branch"] == 2)
            assert (client.frames[-1][1]["model"] == client.frames[-1][1]["simulator"]).all()
            client.send("start", index=1)
            client.until("notice", lambda h: "cannot go there" in h["text"])
            client.send("step")
            client.until("frame", lambda h: h["depth"] == 1 and h["psnr"] is None)
        assert gone(players)
        end = time.monotonic() + 10
        while not all(one.closed for one in made) and time.monotonic() < end:
            time.sleep(0.02)
        assert all(one.closed for one in made)


def played(client, steps=6):
    client.begun()
    session = next(told for told in client.told if told["type"] == "hello")["session"]
    client.send("input", seq=1, action=RIGHT)
    for depth in range(1, steps + 1):
        client.send("step")
        client.until("frame", lambda h, d=depth: h["depth"] == d)
    return session


def test_downloads_read_back(server, tmp_path):
    with Client(server[0]) as client:
        session = played(client)
        status, data, _ = get(server[0], f"/download/{session}/mp4")
        assert status == 200
        with av.open(io.BytesIO(data)) as video:
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert len(frames) == 7
        side = frames[0].shape[0] // SIDE
        assert [int(f[side, side // 2 :: side, 0].argmax()) for f in frames] == list(range(7))
        status, data, _ = get(server[0], f"/download/{session}/rlds")
        episodes = Episodes(str(downloads.read_back(data, tmp_path)), "train")
        assert episodes.lengths.tolist() == [7]
        steps = episodes.read(0, 0, 7)
        shown = [images["model"] for header, images in client.frames if header["depth"] or header["tick"] == 1]
        np.testing.assert_array_equal(steps["frames"], np.stack(shown))
        assert steps["actions"][:6].tolist() == [RIGHT] * 6
        assert (episodes.spec.actions.kind, episodes.spec.actions.size) == ("discrete", 3)
        assert get(server[0], f"/download/{session}/exe")[0] == 404


def post(address, session, data, **headers):
    request = urllib.request.Request(f"http://{address}/upload/{session}", data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as found:
            return found.status, json.loads(found.read())
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else text.decode()


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_uploads_are_played_or_explained(server, tmp_path):
    address = server[0]
    with Client(address) as client:
        session = played(client, 1)
        origin = {"Origin": f"http://{address}"}
        large = frame_of(5).repeat(8, axis=0).repeat(8, axis=1)
        status, answer = post(address, session, png(large), **origin)
        assert status == 200
        client.send("upload", name=answer["name"])
        _, images = client.until("frame", lambda h: h["depth"] == 0)
        assert column(images) == 5
        downloads.write_mp4(tmp_path / "video.mp4", [frame_of(i) for i in range(9)], [None] * 9, 10)
        status, answer = post(address, session, (tmp_path / "video.mp4").read_bytes(), **origin)
        assert status == 200
        client.send("upload", name=answer["name"])
        _, images = client.until("frame", lambda h: h["depth"] == 0)
        assert column(images) == 8
        assert post(address, session, b"hello" * 100, **origin)[0] == 422
        assert post(address, session, png(large)[:200], **origin)[0] == 422
        bomb = io.BytesIO()
        Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
        assert len(bomb.getvalue()) < 1 << 20
        status, answer = post(address, session, bomb.getvalue(), **origin)
        assert status == 422
        assert "pixels" in answer["error"]
        status, answer = post(address, session, os.urandom(uploads.MOST_BYTES + 1), **origin)
        assert status == 422
        assert "MiB" in answer["error"]
        assert post(address, session, png(large))[0] == 403  # no Origin header
        assert post(address, session, png(large), Origin="http://evil.example")[0] == 403
        assert post(address, "nobody", png(large), **origin)[0] == 404
