"""The server of the play page over real sockets, without a browser."""

import contextlib
import io
import json
import os
import time
import urllib.error
import urllib.request

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from toy_scene import SIDE, Client, ToySimulator, frame_of, serving, toy_scene
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from experiments.play import downloads, messages, uploads
from world_models.data.stored_episodes import Episodes

RIGHT, LEFT = 1, 2


@pytest.fixture(scope="module")
def server():
    with serving(toy_scene(), max_players=3) as (address, players):
        players.warm()
        yield address, players


def gone(players):
    """Waits until no player is left."""
    end = time.monotonic() + 20
    while players.sessions and time.monotonic() < end:
        time.sleep(0.02)
    return not players.sessions


def close_reason(client):
    """(code, reason) with which the server closes a socket."""
    with pytest.raises(ConnectionClosed) as caught:
        client.drain(20)
    return caught.value.rcvd.code, caught.value.rcvd.reason


def column(images):
    return int(images["model"][0, :, 0].argmax())


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


def test_players_are_apart_limited_and_freed(server):
    address, players = server
    assert gone(players)
    with Client(address) as one, Client(address) as two, Client(address) as three:
        for client, action in ((one, RIGHT), (two, LEFT), (three, 0)):
            client.begun()
            client.send("input", seq=1, action=action)
            client.send("play", on=True)
        assert [column(c.until("frame", lambda h: h["depth"] == 3)[1]) for c in (one, two, three)] == [3, SIDE - 3, 0]
        code, reason = close_reason(Client(address))
        assert code == 1013
        assert "3 places" in reason
        two.socket.close()
        end = time.monotonic() + 10
        while len(players.sessions) == 3 and time.monotonic() < end:
            time.sleep(0.02)
        with Client(address) as four:
            four.begun()
    assert gone(players)


@pytest.mark.parametrize(
    ("origin", "host"),
    [("http://evil.example", None), ("http://127.0.0.1:1", None), (None, "evil.example"), ("null", None)],
)
def test_other_sites_cannot_open_a_socket(server, origin, host):
    headers = {"Host": host} if host else {}
    own = origin or f"http://{host}"
    with pytest.raises((InvalidStatus, ValueError)) as caught:
        connect(f"ws://{server[0]}/ws", origin=own, additional_headers=headers)
    assert isinstance(caught.value, ValueError) or caught.value.response.status_code in (400, 403)


def get(address, path, **headers):
    """(status, body) of a request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://{address}{path}", headers=headers)) as found:
            return found.status, found.read(), found.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def test_pages_are_served_to_known_hosts_alone(server):
    status, body, headers = get(server[0], "/")
    assert (status, b"<title>Play</title>" in body) == (200, True)
    assert "default-src 'self'" in headers["content-security-policy"]
    assert get(server[0], "/", Host="evil.example")[0] == 403
    assert get(server[0], "/start/0.png")[1].startswith(b"\x89PNG")
    assert get(server[0], "/start/99.png")[0] == 404
    assert get(server[0], "/static/../server.py")[0] == 404
    assert get(server[0], "/download/nobody/mp4")[0] == 404


def test_with_a_token_nothing_is_served_without():
    with serving(toy_scene(), token="secret") as (address, _):
        assert get(address, "/")[0] == 403
        assert get(address, "/start/0.png")[0] == 403
        assert get(address, "/?token=wrong")[0] == 403
        status, _, headers = get(address, "/?token=secret")
        assert status == 200
        assert "HttpOnly" in headers["set-cookie"]
        assert get(address, "/start/0.png", Cookie="play_token=secret")[0] == 200
        with pytest.raises(InvalidStatus):
            Client(address)
        with Client(address, token="secret") as client:
            client.begun()


def test_what_is_wrong_closes_its_socket_with_a_reason(server):
    for text, word in [
        ("{", "JSON"),
        ("[]", "object"),
        ('{"type": "fly"}', "type"),
        ('{"type": "input", "seq": 1, "action": 3}', "action"),
        ('{"type": "input", "seq": 1, "action": [0.1]}', "action"),
        ('{"type": "input", "seq": 1, "action": NaN}', "JSON"),
        ('{"type": "start", "index": 6}', "start"),
        ('{"type": "set", "name": "loud", "value": 3}', "set"),
        ('{"type": "set", "name": "seed", "value": true}', "set"),
        ('{"type": "set", "name": "simulator", "value": true}', "set"),
        ('{"type": "take", "index": 0}', "take"),
        ('{"type": "goal", "x": 0.5, "y": 0.5}', "planner"),
        ('{"type": "upload", "name": "mine"}', "upload"),
        (" " * (messages.MOST_BYTES + 1), "characters"),
    ]:
        with Client(server[0]) as client:
            client.begun()
            client.socket.send(text)
            code, reason = close_reason(client)
            assert code == 1008
            assert word in reason, text
    with Client(server[0]) as client:
        client.begun()
        client.socket.send(b"bytes")
        assert close_reason(client)[0] == 1008
    with Client(server[0]) as client:
        client.begun()
        client.socket.send("x" * 100_000)
        assert close_reason(client)[0] == 1009
    assert gone(server[1])


def test_too_many_messages_close_the_socket(server):
    with Client(server[0]) as client:
        client.begun()
        with contextlib.suppress(ConnectionClosed):
            for _ in range(5_000):
                client.send("ack", tick=0)
        code, reason = close_reason(client)
        assert code == 4029
        assert "messages" in reason


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=6)
    | st.lists(st.integers(), max_size=3)
)
KINDS = st.sampled_from(sorted(messages.FIELDS)) | st.text(max_size=6)
BAD = (
    st.text(max_size=30)
    | st.binary(max_size=30)
    | st.dictionaries(st.sampled_from(["index", "seq", "x"]), VALUES).map(json.dumps)
    | KINDS.flatmap(
        lambda kind: st.fixed_dictionaries(
            {"type": st.just(kind)}, optional=dict.fromkeys(messages.FIELDS.get(kind, {}), VALUES)
        ).map(json.dumps)
    )
)


def test_a_thousand_bad_messages_disturb_nobody(server):
    address, players = server
    assert gone(players)
    with Client(address) as calm:
        calm.begun()
        calm.send("input", seq=1, action=RIGHT)
        calm.send("play", on=True)

        @settings(max_examples=125, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(BAD, min_size=8, max_size=8))
        def attack(bad):
            with connect(f"ws://{address}/ws", origin=f"http://{address}") as socket:
                for message in bad:
                    try:
                        socket.send(message)
                    except ConnectionClosed:
                        break
            calm.until("frame")

        attack()
        depth = calm.frames[-1][0]["depth"]
        calm.until("frame", lambda header: header["depth"] > depth + 3)
        depths = [header["depth"] for header, _ in calm.frames]
        assert depths == list(range(len(depths)))
        columns = [column(images) for _, images in calm.frames]
        assert columns == [depth % SIDE for depth in depths]
        calm.send("play", on=False)
    assert gone(players)


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


def memory_and_files():
    """(resident MiB, open file descriptors) of this process, in which the server runs."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("seconds", [120, pytest.param(1_800, marks=[pytest.mark.slow, pytest.mark.timeout(2_400)])])
def test_memory_and_file_descriptors_are_flat(server, seconds):
    address, players = server
    assert gone(players)
    points, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        with Client(address) as client:
            client.begun()
            client.send("set", name="fps", value=60)
            client.send("input", seq=1, action=RIGHT)
            client.send("play", on=True)
            client.until("frame", lambda h: h["depth"] >= 60 * min(20, seconds // 12), timeout=120)
            client.send("futures")
            client.until("futures")
            client.frames.clear()
        assert gone(players)
        points.append(memory_and_files())
    memory, files = np.array(points)[len(points) // 3 :].T
    assert np.ptp(files) <= 2
    assert memory[-1] - memory[0] < 20
