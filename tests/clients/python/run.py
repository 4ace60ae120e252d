"""Runs the official OpenAI and Anthropic SDKs for Python against a proxy.

    llm-proxy demo --data-dir TMP --listen 127.0.0.1:0 --ready-file READY &
    READY_FILE=READY python run.py

With PROVIDER_URL (and PROVIDER_KEY) instead of READY_FILE it talks to the sample provider
directly: the cases that need the proxy are then skipped, and the count says so. Prints one
line a case and `N passed, N failed` at the end; the exit status is 0 if none failed.
"""

import asyncio
import json
import os
import sys
import traceback
import urllib.request
import uuid

import anthropic
import openai

CASES = []


def case(function=None, *, proxied=False):
    """Registers a case; `proxied` ones need the proxy's own answers."""

    def register(function):
        CASES.append((function, proxied))
        return function

    return register(function) if function else register


class World:
    """Where everything is: read from the ready file, or the provider alone."""

    def __init__(self, environment):
        ready_file = environment.get("READY_FILE")
        self.direct = ready_file is None
        if self.direct:
            self.url = self.provider_url = environment["PROVIDER_URL"]
            self.token = environment.get("PROVIDER_KEY", "sample-key")
            self.anthropic_url = self.url
            return
        with open(ready_file, encoding="utf-8") as file:
            ready = json.load(file)
        self.url = ready["url"]
        self.anthropic_url = self.url + "/anthropic"
        self.provider_url = ready["sample_provider"]["url"]
        self.management = ready["management"]
        self.project_id = ready["project_id"]
        self.token = ready["tokens"]["normal"]

    def openai(self, token=None, **options):
        options.setdefault("max_retries", 0)
        return openai.OpenAI(api_key=token or self.token, base_url=self.url + "/v1", **options)

    def anthropic(self, token=None, **options):
        options.setdefault("max_retries", 0)
        return anthropic.Anthropic(
            api_key=token or self.token, auth_token=None, base_url=self.anthropic_url, **options
        )

    def create_token(self, **limits):
        body = {"project_id": self.project_id, "duration_minutes": 60, **limits}
        return self.manage("POST", "/manage/tokens", body)

    def manage(self, method, path, body=None):
        request = urllib.request.Request(
            self.management["url"] + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "authorization": "Bearer " + self.management["key"],
                "content-type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            text = response.read()
            return json.loads(text) if text else None

    def received(self, request_id):
        """How many requests of this id reached the provider."""
        url = f"{self.provider_url}/__sample/ledger?request_id={request_id}"
        with urllib.request.urlopen(url, timeout=10) as response:
            items = json.load(response)["items"]
        return sum(item["count"] for item in items)


def sample(directives, request_id=None):
    """Headers that tell the sample provider what to do and name the request."""
    headers = {"x-sample": directives}
    if request_id:
        headers["x-request-id"] = request_id
    return headers


def new_id():
    return "client-" + uuid.uuid4().hex


def raises(expected, call):
    try:
        call()
    except expected as error:
        assert type(error) is expected, f"{type(error).__name__} instead of {expected.__name__}"
        return error
    raise AssertionError(f"{expected.__name__} was not raised")


HELLO = [{"role": "user", "content": "hello"}]
CHAT = {"model": "gpt-4o-mini", "messages": HELLO}
MESSAGE = {"model": "claude-sonnet-4-6", "max_tokens": 64, "messages": HELLO}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
OPENAI_TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
ANTHROPIC_TOOL = {"name": "weather", "description": "The weather", "input_schema": PARAMETERS}


# OpenAI: answers


@case
def openai_plain(world):
    answer = world.openai().chat.completions.create(**CHAT)
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.choices[0].finish_reason == "stop"


@case
def openai_streaming(world):
    client = world.openai()
    plain = client.chat.completions.create(**CHAT, extra_headers=sample("chunks=20"))
    stream = client.chat.completions.create(
        **CHAT,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=sample("chunks=20,chunk_delay=1ms"),
    )
    chunks = list(stream)
    words = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert len(words) == 20 and plain.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == 20


@case
def openai_tools(world):
    client = world.openai()
    answer = client.chat.completions.create(**CHAT, tools=[OPENAI_TOOL])
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and json.loads(call.function.arguments)["city"]
    assert answer.choices[0].finish_reason == "tool_calls"
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    messages = [*HELLO, answer.choices[0].message, result]
    final = client.chat.completions.create(
        model="gpt-4o-mini", messages=messages, tools=[OPENAI_TOOL]
    )
    assert final.choices[0].message.content


@case
def openai_streamed_tools(world):
    stream = world.openai().chat.completions.create(**CHAT, tools=[OPENAI_TOOL], stream=True)
    deltas = [c.choices[0].delta.tool_calls for c in stream if c.choices]
    arguments = "".join(d[0].function.arguments or "" for d in deltas if d)
    assert json.loads(arguments)["city"] == "Zürich"


@case
def openai_choices(world):
    answer = world.openai().chat.completions.create(**CHAT, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


@case
def openai_responses(world):
    client = world.openai()
    answer = client.responses.create(model="gpt-5", input="hello")
    assert answer.output_text and answer.usage.input_tokens > 0
    with client.responses.stream(model="gpt-5", input="hello") as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"


@case
def openai_embeddings(world):
    answer = world.openai().embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert len(answer.data) == 2 and len(answer.data[0].embedding) == 8


@case
def openai_legacy_completions(world):
    client = world.openai()
    answer = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="hello")
    assert answer.choices[0].text and answer.usage.prompt_tokens


@case
def openai_models(world):
    assert "gpt-4o" in [model.id for model in world.openai().models.list()]


@case
def openai_compressed(world):
    answer = world.openai().chat.completions.create(**CHAT, extra_headers=sample("gzip"))
    assert answer.choices[0].message.content


@case
def openai_upload(world):
    file = world.openai().files.create(file=("a.jsonl", b"{}\n" * 1000), purpose="batch")
    assert file.bytes > 3000


@case
def openai_speech(world):
    speech = world.openai().audio.speech.create(model="tts-1", voice="alloy", input="hello")
    assert len(speech.read()) == 32 * 1024


@case
def openai_async(world):
    async def run():
        async with openai.AsyncOpenAI(
            api_key=world.token, base_url=world.url + "/v1", max_retries=0
        ) as client:
            answers = await asyncio.gather(
                *(client.chat.completions.create(**CHAT) for _ in range(8))
            )
            stream = await client.chat.completions.create(**CHAT, stream=True)
            return answers, [chunk async for chunk in stream]

    answers, chunks = asyncio.run(run())
    assert len({answer.choices[0].message.content for answer in answers}) == 1 and chunks


# OpenAI: the provider's errors pass through


@case
def openai_provider_errors(world):
    expected = {
        400: openai.BadRequestError,
        401: openai.AuthenticationError,
        403: openai.PermissionDeniedError,
        404: openai.NotFoundError,
        429: openai.RateLimitError,
        500: openai.InternalServerError,
        503: openai.InternalServerError,
    }
    client = world.openai()
    for status, kind in expected.items():
        headers = sample(f"status={status}")
        error = raises(kind, lambda: client.chat.completions.create(**CHAT, extra_headers=headers))
        assert error.status_code == status and error.request_id, f"{status}: {error}"
        assert error.response.headers["content-type"].startswith("application/json")


@case
def openai_retries(world):
    for status in (429, 503, 500):
        request_id = new_id()
        headers = sample(f"status={status},times=2,retry_after_ms=10", request_id)
        client = world.openai(max_retries=2)
        assert client.chat.completions.create(**CHAT, extra_headers=headers).choices
        assert world.received(request_id) == 3, f"{status}: {world.received(request_id)}"


@case
def openai_retries_end(world):
    request_id = new_id()
    headers = sample("status=429,retry_after_ms=10", request_id)
    client = world.openai(max_retries=1)
    raises(
        openai.RateLimitError, lambda: client.chat.completions.create(**CHAT, extra_headers=headers)
    )
    assert world.received(request_id) == 2


@case
def openai_timeout(world):
    client = world.openai(timeout=0.3)
    headers = sample("hang_headers")
    raises(
        openai.APITimeoutError,
        lambda: client.chat.completions.create(**CHAT, extra_headers=headers),
    )


@case
def openai_cut_stream(world):
    """A broken stream must not look like a whole one."""
    headers = sample("chunks=20,cut=4,chunk_delay=1ms")
    stream = world.openai().chat.completions.create(**CHAT, stream=True, extra_headers=headers)
    seen = []
    try:
        for chunk in stream:
            seen.append(chunk)
    except openai.APIConnectionError:
        pass
    else:
        raise AssertionError("the stream ended as if it were whole")
    assert 0 < len(seen) < 20


@case
def openai_raw_request_id(world):
    raw = world.openai().chat.completions.with_raw_response.create(**CHAT)
    assert raw.parse().choices and raw.headers["x-request-id"]
    assert raw.request_id == raw.headers["x-request-id"]


# OpenAI: what the proxy itself answers


def proxy_error(error, status, code):
    assert error.status_code == status, error
    assert error.code == code, f"{error.code} instead of {code}"
    assert error.message, "no message"
    assert error.request_id == error.response.headers["x-request-id"]
    assert error.body["request_id"] == error.request_id
    return error


@case(proxied=True)
def openai_own_request_id(world):
    request_id = new_id()
    raw = world.openai().chat.completions.with_raw_response.create(
        **CHAT, extra_headers={"x-request-id": request_id}
    )
    assert raw.request_id == request_id
    assert raw.headers["x-upstream-request-id"].startswith("req_sample_")
    assert int(raw.headers["x-llm-proxy-overhead-us"]) >= 0
    assert world.received(request_id) == 1


@case(proxied=True)
def openai_invalid_token(world):
    for token, code in (("sk-" + "A" * 43, "token_not_found"), ("nonsense", "token_invalid")):
        client = world.openai(token)
        error = raises(
            openai.AuthenticationError, lambda c=client: c.chat.completions.create(**CHAT)
        )
        proxy_error(error, 401, code)


@case(proxied=True)
def openai_revoked_token(world):
    token = world.create_token()
    client = world.openai(token["token"])
    assert client.chat.completions.create(**CHAT).choices
    world.manage("DELETE", "/manage/tokens/" + token["id"])
    error = raises(openai.AuthenticationError, lambda: client.chat.completions.create(**CHAT))
    proxy_error(error, 401, "token_inactive")


@case(proxied=True)
def openai_model_not_allowed(world):
    client = world.openai(world.create_token(allowed_models=["gpt-4o"])["token"])
    error = raises(openai.PermissionDeniedError, lambda: client.chat.completions.create(**CHAT))
    proxy_error(error, 403, "model_not_allowed")


@case(proxied=True)
def openai_quota_is_not_retried(world):
    client = world.openai(world.create_token(max_requests=1)["token"], max_retries=3)
    assert client.chat.completions.create(**CHAT).choices
    request_id = new_id()
    headers = {"x-request-id": request_id}
    error = raises(
        openai.RateLimitError, lambda: client.chat.completions.create(**CHAT, extra_headers=headers)
    )
    proxy_error(error, 429, "quota_exceeded")
    assert error.response.headers["x-should-retry"] == "false"
    assert error.request_id == request_id and world.received(request_id) == 0


@case(proxied=True)
def openai_rate_limit_is_retried(world):
    token = world.create_token(rate_limit_rpm=60)["token"]
    client = world.openai(token)
    error = None
    for _ in range(70):
        try:
            client.chat.completions.create(**CHAT)
        except openai.RateLimitError as refused:
            error = refused
            break
    assert error is not None, "the limit never came"
    proxy_error(error, 429, "rate_limited")
    assert 1 <= int(error.response.headers["retry-after"]) <= 60
    assert world.openai(token, max_retries=3).chat.completions.create(**CHAT).choices


# Anthropic


@case
def anthropic_plain(world):
    answer = world.anthropic().messages.create(**MESSAGE)
    assert answer.content[0].text and answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 0


@case
def anthropic_streaming(world):
    with world.anthropic().messages.stream(
        **MESSAGE, extra_headers=sample("chunks=20,chunk_delay=1ms")
    ) as stream:
        words = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(words) == 20 and "".join(words) == final.content[0].text
    assert final.usage.output_tokens == 20


@case
def anthropic_tools(world):
    client = world.anthropic()
    answer = client.messages.create(**MESSAGE, tools=[ANTHROPIC_TOOL])
    call = answer.content[0]
    assert answer.stop_reason == "tool_use" and call.input["city"] == "Zürich"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    messages = [
        *HELLO,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    final = client.messages.create(**{**MESSAGE, "messages": messages}, tools=[ANTHROPIC_TOOL])
    assert final.content[0].text
    with client.messages.stream(**MESSAGE, tools=[ANTHROPIC_TOOL]) as stream:
        assert stream.get_final_message().content[0].input["city"] == "Zürich"


@case
def anthropic_cache_figures(world):
    system = [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]
    answer = world.anthropic().messages.create(
        **MESSAGE, system=system, extra_headers=sample("cached=20")
    )
    assert answer.usage.cache_read_input_tokens == 20
    assert answer.usage.cache_creation_input_tokens > 0


@case
def anthropic_count_tokens(world):
    counted = world.anthropic().messages.count_tokens(model="claude-sonnet-4-6", messages=HELLO)
    assert counted.input_tokens > 0


@case
def anthropic_provider_errors(world):
    expected = {
        400: anthropic.BadRequestError,
        401: anthropic.AuthenticationError,
        403: anthropic.PermissionDeniedError,
        404: anthropic.NotFoundError,
        429: anthropic.RateLimitError,
        500: anthropic.InternalServerError,
    }
    client = world.anthropic()
    for status, kind in expected.items():
        headers = sample(f"status={status}")
        error = raises(kind, lambda: client.messages.create(**MESSAGE, extra_headers=headers))
        assert error.status_code == status and error.request_id, f"{status}: {error}"
        assert error.body["type"] == "error"
    try:
        client.messages.create(**MESSAGE, extra_headers=sample("status=529"))
    except anthropic.InternalServerError as error:
        assert error.status_code == 529 and error.body["error"]["type"] == "overloaded_error"
    else:
        raise AssertionError("529 was not raised")


@case
def anthropic_retries(world):
    for status in (429, 503, 529):
        request_id = new_id()
        headers = sample(f"status={status},times=2,retry_after_ms=10", request_id)
        client = world.anthropic(max_retries=2)
        assert client.messages.create(**MESSAGE, extra_headers=headers).content
        assert world.received(request_id) == 3


@case
def anthropic_timeout(world):
    client = world.anthropic(timeout=0.3)
    raises(
        anthropic.APITimeoutError,
        lambda: client.messages.create(**MESSAGE, extra_headers=sample("hang_headers")),
    )


@case
def anthropic_raw_request_id(world):
    raw = world.anthropic().messages.with_raw_response.create(**MESSAGE)
    assert raw.parse().content and raw.request_id


@case(proxied=True)
def anthropic_own_request_id(world):
    """The SDK reads `request-id`: our id stands there too."""
    request_id = new_id()
    headers = {"x-request-id": request_id}
    raw = world.anthropic().messages.with_raw_response.create(**MESSAGE, extra_headers=headers)
    assert raw.request_id == request_id == raw.headers["x-request-id"]
    assert raw.headers["x-upstream-request-id"].startswith("req_sample_")


def anthropic_proxy_error(error, status, kind, code):
    assert error.status_code == status, error
    assert error.body["type"] == "error" and error.body["error"]["type"] == kind, error.body
    assert error.body["error"]["code"] == code, error.body
    assert error.body["error"]["message"]
    assert error.body["request_id"] == error.response.headers["x-request-id"]
    # The SDK reads its own header name.
    assert error.request_id == error.body["request_id"], error.request_id
    return error


@case(proxied=True)
def anthropic_invalid_token(world):
    client = world.anthropic("sk-" + "A" * 43)
    error = raises(anthropic.AuthenticationError, lambda: client.messages.create(**MESSAGE))
    anthropic_proxy_error(error, 401, "authentication_error", "token_not_found")


@case(proxied=True)
def anthropic_model_not_allowed(world):
    client = world.anthropic(world.create_token(allowed_models=["gpt-*"])["token"])
    error = raises(anthropic.PermissionDeniedError, lambda: client.messages.create(**MESSAGE))
    anthropic_proxy_error(error, 403, "permission_error", "model_not_allowed")


@case(proxied=True)
def anthropic_quota_is_not_retried(world):
    client = world.anthropic(world.create_token(max_requests=1)["token"], max_retries=3)
    assert client.messages.create(**MESSAGE).content
    request_id = new_id()
    error = raises(
        anthropic.RateLimitError,
        lambda: client.messages.create(**MESSAGE, extra_headers={"x-request-id": request_id}),
    )
    anthropic_proxy_error(error, 429, "rate_limit_error", "quota_exceeded")
    assert error.response.headers["x-should-retry"] == "false"
    assert world.received(request_id) == 0


def main():
    world = World(os.environ)
    passed = failed = skipped = 0
    for function, proxied in CASES:
        if proxied and world.direct:
            skipped += 1
            continue
        try:
            function(world)
        except Exception:
            failed += 1
            print(f"FAIL {function.__name__}\n{traceback.format_exc()}", flush=True)
        else:
            passed += 1
            print(f"ok   {function.__name__}", flush=True)
    suffix = f", {skipped} skipped (no proxy)" if skipped else ""
    print(f"{passed} passed, {failed} failed{suffix}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
