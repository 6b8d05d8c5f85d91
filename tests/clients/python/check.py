"""The unmodified `openai` package from PyPI, given a base URL and a dummy key in its environment."""
import asyncio
import hashlib
import json
import os
import sys
import time
import urllib.request

import httpx2
import openai
import websockets
from openai import OpenAI

client = OpenAI()
MODEL = "gpt-4o-mini"
REALTIME = "gpt-realtime"
OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
HELLO = [{"role": "user", "content": "Tell me about the sea, please"}]


def control(method, path, content=None):
    """The emulator's control interface: what the resource has seen, and what it should do wrong."""
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(
        os.environ["AOAI_EMULATOR_CONTROL"] + path, data=data, method=method, headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read()
        return json.loads(text) if text else None


def fault(route, action, count=1):
    control("POST", "/faults", {"route": route, "action": action, "count": count})


def until_held():
    """Waits until the resource has stopped in the middle of a stream."""
    deadline = time.monotonic() + 30
    while control("GET", "/state")["streams_held"] != 1:
        assert time.monotonic() < deadline, "the stream is not held"
        time.sleep(0.01)


def chat():
    completion = client.chat.completions.create(model=MODEL, messages=HELLO)
    assert "Tell me about the sea, please" in completion.choices[0].message.content
    assert completion.usage.total_tokens > 0


def chat_streamed():
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Tell me about the sea, please" in text
    assert chunks[-1].usage.total_tokens > 0


def first_token_while_the_resource_still_writes():
    fault("chat", {"kind": "hold", "after_events": 4})
    stream = iter(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    first = next(chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
    until_held()
    state = control("GET", "/state")
    assert state["streams_open"] == 1, state
    control("POST", "/release")
    rest = [chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
    assert rest and first


def responses():
    response = client.responses.create(model=MODEL, input="Tell me about the sea, please")
    assert "Tell me about the sea, please" in response.output_text
    assert response.usage.total_tokens > 0


def responses_streamed():
    events = list(client.responses.create(model=MODEL, input="Tell me about the sea, please", stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text


def responses_over_a_websocket():
    with client.responses.connect() as connection:
        connection.response.create(model=MODEL, input="Tell me about the sea, please")
        events = until(connection, "response.completed")
    assert events[0].type == "response.created"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text and "Tell me about the sea, please" in text


def realtime():
    with client.realtime.connect(model=REALTIME) as connection:
        converse(connection, "response.output_text.delta")


def realtime_of_the_azure_client():
    # Unless it is told otherwise, this client makes `wss:` of any endpoint.
    websockets_at = os.environ["OPENAI_BASE_URL"].replace("http://", "ws://").removesuffix("/v1") + "/openai"
    with azure(websocket_base_url=websockets_at).realtime.connect(model=REALTIME) as connection:
        converse(connection, "response.text.delta")


def realtime_asynchronously():
    async def talk():
        async with openai.AsyncOpenAI().realtime.connect(model=REALTIME) as connection:
            created = await connection.recv()
            assert created.type == "session.created", created
            await connection.response.create()
            async for event in connection:
                if event.type == "response.done":
                    return event.response
        raise AssertionError("no response")

    assert asyncio.run(talk()).usage.total_tokens > 0


def client_secret_opens_a_call():
    secret = client.realtime.client_secrets.create(session={"type": "realtime", "model": REALTIME})
    assert secret.value.startswith("ek_") and secret.expires_at > time.time()
    # What a web page does with the secret, against the same base URL.
    answer = OpenAI(api_key=secret.value).realtime.calls.create(sdp=OFFER)
    assert answer.text.startswith("v=0")
    assert "/realtime/calls/rtc_" in answer.response.headers["location"]


def until(connection, last):
    """The events that come, up to one of this type."""
    events = []
    for event in connection:
        assert event.type != "error", event
        events.append(event)
        if event.type == last:
            return events
    raise AssertionError(f"the connection ended before {last}")


def converse(connection, delta):
    created = connection.recv()
    assert created.type == "session.created" and created.session.model == REALTIME, created
    connection.session.update(session={"type": "realtime", "instructions": "Be brief"})
    assert connection.recv().session.instructions == "Be brief"
    connection.input_audio_buffer.append(audio="AAAA")
    content = [{"type": "input_text", "text": "Tell me about the sea, please"}]
    connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
    connection.response.create()
    events = until(connection, "response.done")
    assert "Tell me about the sea, please" in "".join(event.delta for event in events if event.type == delta)
    done = events[-1].response
    assert done.status == "completed" and done.usage.output_tokens > 0, done


def embeddings():
    by_default = client.embeddings.create(model="text-embedding-3-small", input=["the sea", "the hills"])
    as_floats = client.embeddings.create(model="text-embedding-3-small", input="the sea", encoding_format="float")
    assert len(by_default.data) == 2 and len(as_floats.data[0].embedding) == 1536
    assert all(abs(a - b) < 1e-6 for a, b in zip(by_default.data[0].embedding, as_floats.data[0].embedding))


def file_up_and_down():
    content = hashlib.shake_256(b"a file").digest(5 * 1024 * 1024)
    uploaded = client.files.create(file=("five-megabytes.bin", content), purpose="assistants")
    assert uploaded.bytes == len(content)
    assert uploaded.id in [file.id for file in client.files.list()]
    back = client.files.content(uploaded.id).read()
    assert hashlib.sha256(back).digest() == hashlib.sha256(content).digest()
    assert client.files.delete(uploaded.id).deleted


def models():
    assert any("gpt-4o" in model.id for model in client.models.list())


def missing_deployment_is_the_sdks_own_exception():
    try:
        client.chat.completions.create(model="no-such-deployment", messages=HELLO)
    except openai.NotFoundError as error:
        assert error.code == "DeploymentNotFound", error.code
        assert "no-such-deployment" in error.body["hint"], error
        return
    raise AssertionError("no exception")


def missing_role_is_explained():
    control("POST", "/role", {"data_plane": False})
    try:
        client.chat.completions.create(model=MODEL, messages=HELLO)
    except openai.AuthenticationError as error:
        assert "az role assignment create" in error.body["hint"], error
        assert "lacks the required data action" in error.message, error
        return
    finally:
        control("POST", "/role", {"data_plane": True})
    raise AssertionError("no exception")


def stale_token_is_renewed_unnoticed():
    before = control("GET", "/state")["requests"]["imds"]
    control("POST", "/revoke", {"flush": True})
    once = client.with_options(max_retries=0)
    assert list(once.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert control("GET", "/state")["requests"]["imds"] == before + 1


def throttled_then_answered_by_the_sdks_own_retry():
    before = control("GET", "/state")["requests"].get("chat", 0)
    headers = {"retry-after-ms": "20"}
    fault("chat", {"kind": "status", "status": 429, "headers": headers})
    assert client.chat.completions.create(model=MODEL, messages=HELLO).choices
    assert control("GET", "/state")["requests"]["chat"] == before + 2


def throttled_without_retry_is_the_sdks_own_exception():
    fault("chat", {"kind": "status", "status": 429})
    try:
        client.with_options(max_retries=0).chat.completions.create(model=MODEL, messages=HELLO)
    except openai.RateLimitError as error:
        assert "retry-after-ms" in error.response.headers
        return
    raise AssertionError("no exception")


def stream_that_fails_is_the_sdks_own_exception():
    fault("chat", {"kind": "error_event", "after_events": 4})
    try:
        list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    except openai.APIError as error:
        assert "had an error" in error.message, error
        return
    raise AssertionError("no exception")


def missing_role_refuses_the_handshake():
    control("POST", "/role", {"data_plane": False})
    try:
        with client.realtime.connect(model=REALTIME):
            raise AssertionError("no exception")
    except websockets.exceptions.InvalidStatus as error:
        assert error.response.status_code == 401, error
        assert b"az role assignment create" in error.response.body, error.response.body
    finally:
        control("POST", "/role", {"data_plane": True})


def stale_token_is_renewed_unnoticed_in_a_handshake():
    before = control("GET", "/state")["requests"]["imds"]
    control("POST", "/revoke", {"flush": True})
    with client.realtime.connect(model=REALTIME) as connection:
        assert connection.recv().type == "session.created"
    assert control("GET", "/state")["requests"]["imds"] == before + 1


def azure(**more):
    origin = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
    return openai.AzureOpenAI(azure_endpoint=origin, api_key="unused", api_version="2024-10-21", **more)


def azure_client():
    assert azure().chat.completions.create(model=MODEL, messages=HELLO).choices


def chat_over_a_unix_socket():
    # The host in the base URL is only a name.
    transport = httpx2.HTTPTransport(uds=os.environ["UNIX_SOCKET"])
    with openai.DefaultHttpxClient(transport=transport) as http:
        stream = OpenAI(base_url="http://localhost/v1", http_client=http).chat.completions.create(
            model=MODEL, messages=HELLO, stream=True
        )
        assert "Tell me" in "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def another_key_is_the_sdks_own_exception():
    try:
        client.with_options(api_key="another").models.list()
        raise AssertionError("no exception")
    except openai.AuthenticationError as error:
        assert error.code == "invalid_key", error


def another_model_is_the_sdks_own_exception():
    try:
        client.embeddings.create(model="text-embedding-3-small", input="sea")
        raise AssertionError("no exception")
    except openai.PermissionDeniedError as error:
        assert error.code == "model_denied" and "gpt-4o-mini" in str(error), error


def over_the_limit_the_sdk_waits_by_itself():
    hurried = client.with_options(api_key="key-of-the-hurried")
    began = time.monotonic()
    for _ in range(62):
        assert hurried.models.list().data
    assert hurried.with_options(max_retries=2).models.list().data
    waited = time.monotonic() - began
    assert waited >= 1, f"nothing was refused: 63 requests in {waited} s"


CHECKS = [
    chat,
    chat_streamed,
    responses,
    responses_streamed,
    responses_over_a_websocket,
    realtime,
    realtime_asynchronously,
    realtime_of_the_azure_client,
    client_secret_opens_a_call,
    embeddings,
    file_up_and_down,
    models,
    azure_client,
]
WITH_CONTROL = [
    first_token_while_the_resource_still_writes,
    missing_deployment_is_the_sdks_own_exception,
    missing_role_is_explained,
    stale_token_is_renewed_unnoticed,
    throttled_then_answered_by_the_sdks_own_retry,
    throttled_without_retry_is_the_sdks_own_exception,
    stream_that_fails_is_the_sdks_own_exception,
    missing_role_refuses_the_handshake,
    stale_token_is_renewed_unnoticed_in_a_handshake,
]

SHARED = [
    chat,
    chat_over_a_unix_socket,
    another_key_is_the_sdks_own_exception,
    another_model_is_the_sdks_own_exception,
    over_the_limit_the_sdk_waits_by_itself,
]
CHOSEN = {"demo": [chat, chat_streamed], "shared": SHARED, "all": CHECKS + WITH_CONTROL}

for check in CHOSEN[(sys.argv[1:] or ["all"])[0]]:
    check()
    print(f"ok openai (PyPI {openai.__version__}): {check.__name__}", flush=True)
