// Runs the official OpenAI and Anthropic SDKs for Node against a proxy.
//
//     llm-proxy demo --data-dir TMP --listen 127.0.0.1:0 --ready-file READY &
//     READY_FILE=READY node run.mjs
//
// With PROVIDER_URL (and PROVIDER_KEY) instead of READY_FILE it talks to the sample provider
// directly: the cases that need the proxy are then skipped, and the count says so. Prints one
// line a case and `N passed, N failed` at the end; the exit status is 0 if none failed.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const ready = process.env.READY_FILE
  ? JSON.parse(readFileSync(process.env.READY_FILE, "utf8"))
  : undefined;
const url = ready?.url ?? process.env.PROVIDER_URL;
const anthropicUrl = ready ? `${url}/anthropic` : url;
const providerUrl = ready?.sample_provider.url ?? url;
const normalToken = ready?.tokens.normal ?? process.env.PROVIDER_KEY ?? "sample-key";

const openai = (apiKey = normalToken, options = {}) =>
  new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0, ...options });
const anthropic = (apiKey = normalToken, options = {}) =>
  new Anthropic({ apiKey, authToken: null, baseURL: anthropicUrl, maxRetries: 0, ...options });

async function manage(method, path, body) {
  const response = await fetch(ready.management.url + path, {
    method,
    headers: {
      authorization: `Bearer ${ready.management.key}`,
      "content-type": "application/json",
    },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
  return text ? JSON.parse(text) : undefined;
}

const createToken = (limits = {}) =>
  manage("POST", "/manage/tokens", {
    project_id: ready.project_id,
    duration_minutes: 60,
    ...limits,
  });

/** How many requests of this id reached the provider. */
async function received(requestId) {
  const response = await fetch(`${providerUrl}/__sample/ledger?request_id=${requestId}`);
  const { items } = await response.json();
  return items.reduce((sum, item) => sum + item.count, 0);
}

/** Options that tell the sample provider what to do and name the request. */
const sample = (directives, requestId) => ({
  headers: { "x-sample": directives, ...(requestId && { "x-request-id": requestId }) },
});
const newId = () => `client-${randomUUID()}`;

async function raises(kind, promise) {
  try {
    await promise;
  } catch (error) {
    assert.equal(error.constructor.name, kind.name, error.stack);
    return error;
  }
  assert.fail(`${kind.name} was not raised`);
}

const hello = [{ role: "user", content: "hello" }];
const chat = { model: "gpt-4o-mini", messages: hello };
const message = { model: "claude-sonnet-4-6", max_tokens: 64, messages: hello };
const parameters = { type: "object", properties: { city: { type: "string" } } };
const openaiTool = { type: "function", function: { name: "weather", parameters } };
const anthropicTool = { name: "weather", description: "The weather", input_schema: parameters };

const cases = {
  async openai_plain() {
    const answer = await openai().chat.completions.create(chat);
    assert.ok(answer.choices[0].message.content);
    assert.equal(
      answer.usage.total_tokens,
      answer.usage.prompt_tokens + answer.usage.completion_tokens,
    );
  },
  async openai_streaming() {
    const stream = await openai().chat.completions.create(
      { ...chat, stream: true, stream_options: { include_usage: true } },
      sample("chunks=20,chunk_delay=1ms"),
    );
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    assert.equal(chunks.filter((chunk) => chunk.choices[0]?.delta.content).length, 20);
    assert.equal(chunks.at(-1).usage.completion_tokens, 20);
  },
  async openai_tools() {
    const client = openai();
    const answer = await client.chat.completions.create({ ...chat, tools: [openaiTool] });
    const call = answer.choices[0].message.tool_calls[0];
    assert.equal(JSON.parse(call.function.arguments).city, "Zürich");
    const result = { role: "tool", tool_call_id: call.id, content: "sunny" };
    const messages = [...hello, answer.choices[0].message, result];
    const final = await client.chat.completions.create({ ...chat, messages, tools: [openaiTool] });
    assert.ok(final.choices[0].message.content);
  },
  async openai_streamed_tools() {
    const stream = openai().chat.completions.stream({ ...chat, tools: [openaiTool] });
    const final = await stream.finalChatCompletion();
    const call = final.choices[0].message.tool_calls[0];
    assert.equal(JSON.parse(call.function.arguments).city, "Zürich");
  },
  async openai_responses() {
    const answer = await openai().responses.create({ model: "gpt-5", input: "hello" });
    assert.ok(answer.output_text && answer.usage.input_tokens > 0);
    const stream = await openai().responses.create({ model: "gpt-5", input: "x", stream: true });
    const kinds = [];
    for await (const event of stream) kinds.push(event.type);
    assert.equal(kinds[0], "response.created");
    assert.equal(kinds.at(-1), "response.completed");
  },
  async openai_embeddings() {
    const model = "text-embedding-3-small";
    const answer = await openai().embeddings.create({ model, input: ["a", "b"] });
    assert.equal(answer.data.length, 2);
    assert.equal(answer.data[0].embedding.length, 8);
  },
  async openai_models() {
    const ids = [];
    for await (const model of openai().models.list()) ids.push(model.id);
    assert.ok(ids.includes("gpt-4o"));
  },
  async openai_compressed() {
    const answer = await openai().chat.completions.create(chat, sample("gzip"));
    assert.ok(answer.choices[0].message.content);
  },
  async openai_upload() {
    const file = await OpenAI.toFile(Buffer.from("{}\n".repeat(1000)), "a.jsonl");
    assert.ok((await openai().files.create({ file, purpose: "batch" })).bytes > 3000);
  },
  async openai_provider_errors() {
    const expected = {
      400: OpenAI.BadRequestError,
      401: OpenAI.AuthenticationError,
      403: OpenAI.PermissionDeniedError,
      404: OpenAI.NotFoundError,
      429: OpenAI.RateLimitError,
      500: OpenAI.InternalServerError,
      503: OpenAI.InternalServerError,
    };
    for (const [status, kind] of Object.entries(expected)) {
      const call = openai().chat.completions.create(chat, sample(`status=${status}`));
      const error = await raises(kind, call);
      assert.equal(error.status, Number(status));
      assert.ok(error.requestID, "no request id");
    }
  },
  async openai_retries() {
    for (const status of [429, 503, 500]) {
      const id = newId();
      const client = openai(undefined, { maxRetries: 2 });
      const options = sample(`status=${status},times=2,retry_after_ms=10`, id);
      assert.ok((await client.chat.completions.create(chat, options)).choices.length);
      assert.equal(await received(id), 3, `${status}`);
    }
  },
  async openai_timeout() {
    const client = openai(undefined, { timeout: 300 });
    const call = client.chat.completions.create(chat, sample("hang_headers"));
    await raises(OpenAI.APIConnectionTimeoutError, call);
  },
  async openai_cut_stream() {
    const stream = await openai().chat.completions.create(
      { ...chat, stream: true },
      sample("chunks=20,cut=4,chunk_delay=1ms"),
    );
    let seen = 0;
    await assert.rejects(async () => {
      for await (const _ of stream) seen += 1;
    }, "the stream ended as if it were whole");
    assert.ok(seen > 0 && seen < 20);
  },
  async openai_abort() {
    const stream = await openai().chat.completions.create(
      { ...chat, stream: true },
      sample("chunks=1000,chunk_delay=5ms"),
    );
    for await (const _ of stream) break;
    assert.ok(stream.controller.signal.aborted);
  },
  async openai_raw_request_id() {
    const call = openai().chat.completions.create(chat);
    const { data, response, request_id } = await call.withResponse();
    assert.ok(data.choices.length && request_id);
    assert.equal(request_id, response.headers.get("x-request-id"));
  },
  async anthropic_plain() {
    const answer = await anthropic().messages.create(message);
    assert.ok(answer.content[0].text && answer.usage.output_tokens > 0);
    assert.equal(answer.stop_reason, "end_turn");
  },
  async anthropic_streaming() {
    const options = sample("chunks=20,chunk_delay=1ms");
    const final = await anthropic().messages.stream(message, options).finalMessage();
    assert.equal(final.usage.output_tokens, 20);
  },
  async anthropic_tools() {
    const answer = await anthropic().messages.create({ ...message, tools: [anthropicTool] });
    assert.equal(answer.content[0].input.city, "Zürich");
    const stream = anthropic().messages.stream({ ...message, tools: [anthropicTool] });
    assert.equal((await stream.finalMessage()).content[0].input.city, "Zürich");
  },
  async anthropic_provider_errors() {
    const expected = {
      400: Anthropic.BadRequestError,
      401: Anthropic.AuthenticationError,
      403: Anthropic.PermissionDeniedError,
      429: Anthropic.RateLimitError,
      500: Anthropic.InternalServerError,
      529: Anthropic.OverloadedError ?? Anthropic.InternalServerError,
    };
    for (const [status, kind] of Object.entries(expected)) {
      const error = await raises(kind, anthropic().messages.create(message, sample(`status=${status}`)));
      assert.equal(error.status, Number(status));
      assert.equal(error.error.type, "error");
      assert.ok(error.requestID, "no request id");
    }
  },
  async anthropic_retries() {
    for (const status of [429, 503, 529]) {
      const id = newId();
      const client = anthropic(undefined, { maxRetries: 2 });
      const options = sample(`status=${status},times=2,retry_after_ms=10`, id);
      assert.ok((await client.messages.create(message, options)).content.length);
      assert.equal(await received(id), 3, `${status}`);
    }
  },
  async anthropic_timeout() {
    const client = anthropic(undefined, { timeout: 300 });
    const call = client.messages.create(message, sample("hang_headers"));
    await raises(Anthropic.APIConnectionTimeoutError, call);
  },
  async anthropic_raw_request_id() {
    const { data, request_id } = await anthropic().messages.create(message).withResponse();
    assert.ok(data.content.length && request_id);
  },
};

/** Cases about what the proxy itself answers. */
const proxiedCases = {
  async openai_own_request_id() {
    const id = newId();
    const call = openai().chat.completions.create(chat, { headers: { "x-request-id": id } });
    const { response, request_id } = await call.withResponse();
    assert.equal(request_id, id);
    assert.match(response.headers.get("x-upstream-request-id"), /^req_sample_/);
    assert.equal(await received(id), 1);
  },
  async openai_invalid_token() {
    const client = openai(`sk-${"A".repeat(43)}`);
    const error = await raises(OpenAI.AuthenticationError, client.chat.completions.create(chat));
    openaiProxyError(error, 401, "token_not_found");
  },
  async openai_revoked_token() {
    const token = await createToken();
    const client = openai(token.token);
    await client.chat.completions.create(chat);
    await manage("DELETE", `/manage/tokens/${token.id}`);
    const error = await raises(OpenAI.AuthenticationError, client.chat.completions.create(chat));
    openaiProxyError(error, 401, "token_inactive");
  },
  async openai_model_not_allowed() {
    const client = openai((await createToken({ allowed_models: ["gpt-4o"] })).token);
    const error = await raises(OpenAI.PermissionDeniedError, client.chat.completions.create(chat));
    openaiProxyError(error, 403, "model_not_allowed");
  },
  async openai_quota_is_not_retried() {
    const { token } = await createToken({ max_requests: 1 });
    const client = openai(token, { maxRetries: 3 });
    await client.chat.completions.create(chat);
    const id = newId();
    const call = client.chat.completions.create(chat, { headers: { "x-request-id": id } });
    const error = await raises(OpenAI.RateLimitError, call);
    openaiProxyError(error, 429, "quota_exceeded");
    assert.equal(error.headers.get("x-should-retry"), "false");
    assert.equal(error.requestID, id);
    assert.equal(await received(id), 0);
  },
  async openai_rate_limit_is_retried() {
    const { token } = await createToken({ rate_limit_rpm: 60 });
    let refused;
    for (let n = 0; n < 70 && !refused; n += 1) {
      await openai(token).chat.completions.create(chat).catch((error) => (refused = error));
    }
    openaiProxyError(refused, 429, "rate_limited");
    const seconds = Number(refused.headers.get("retry-after"));
    assert.ok(seconds >= 1 && seconds <= 60, `${seconds}`);
    const patient = openai(token, { maxRetries: 3 });
    assert.ok((await patient.chat.completions.create(chat)).choices.length);
  },
  async anthropic_own_request_id() {
    const id = newId();
    const call = anthropic().messages.create(message, { headers: { "x-request-id": id } });
    const { response, request_id } = await call.withResponse();
    assert.equal(request_id, id);
    assert.match(response.headers.get("x-upstream-request-id"), /^req_sample_/);
  },
  async anthropic_invalid_token() {
    const client = anthropic(`sk-${"A".repeat(43)}`);
    const error = await raises(Anthropic.AuthenticationError, client.messages.create(message));
    anthropicProxyError(error, 401, "authentication_error", "token_not_found");
  },
  async anthropic_model_not_allowed() {
    const client = anthropic((await createToken({ allowed_models: ["gpt-*"] })).token);
    const error = await raises(Anthropic.PermissionDeniedError, client.messages.create(message));
    anthropicProxyError(error, 403, "permission_error", "model_not_allowed");
  },
  async anthropic_quota_is_not_retried() {
    const { token } = await createToken({ max_requests: 1 });
    const client = anthropic(token, { maxRetries: 3 });
    await client.messages.create(message);
    const id = newId();
    const call = client.messages.create(message, { headers: { "x-request-id": id } });
    const error = await raises(Anthropic.RateLimitError, call);
    anthropicProxyError(error, 429, "rate_limit_error", "quota_exceeded");
    assert.equal(error.headers.get("x-should-retry"), "false");
    assert.equal(await received(id), 0);
  },
};

function openaiProxyError(error, status, code) {
  assert.equal(error.status, status);
  assert.equal(error.code, code);
  assert.ok(error.message);
  assert.equal(error.requestID, error.headers.get("x-request-id"));
  assert.equal(error.error.request_id, error.requestID);
}

function anthropicProxyError(error, status, kind, code) {
  assert.equal(error.status, status);
  assert.equal(error.error.type, "error");
  assert.equal(error.error.error.type, kind);
  assert.equal(error.error.error.code, code);
  assert.equal(error.error.request_id, error.headers.get("x-request-id"));
  // The SDK reads its own header name.
  assert.equal(error.requestID, error.error.request_id);
}

const chosen = ready ? { ...cases, ...proxiedCases } : cases;
let passed = 0;
let failed = 0;
for (const [name, run] of Object.entries(chosen)) {
  try {
    await run();
    passed += 1;
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n${error.stack}`);
  }
}
const skipped = ready ? "" : `, ${Object.keys(proxiedCases).length} skipped (no proxy)`;
console.log(`${passed} passed, ${failed} failed${skipped}`);
process.exit(failed ? 1 : 0);
