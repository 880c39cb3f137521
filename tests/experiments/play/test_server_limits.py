"""What the server of the play page refuses: other sites, bad and too many messages, too many players."""

import contextlib
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_scene import LEFT, RIGHT, SIDE, Client, column, get, gone, serving, toy_scene
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from experiments.play import messages


def close_reason(client):
    """(code, reason) with which the server closes a socket."""
    with pytest.raises(ConnectionClosed) as caught:
        client.drain(20)
    return caught.value.rcvd.code, caught.value.rcvd.reason


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
