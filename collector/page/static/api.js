// The collector's API, with the key of this tab. Everything that the page shows comes through here.

const KEY = "pulsestream.key";
const API = "/api/v1/ingestion";

// A tab's own: gone when it is closed, sent as a header and never as a cookie.
export const key = {
  get: () => sessionStorage.getItem(KEY) || "",
  set: (value) => sessionStorage.setItem(KEY, value),
  drop: () => sessionStorage.removeItem(KEY),
};

export class ApiError extends Error {
  constructor(status, body, retryAfter = 0) {
    const error = (body && body.error) || {};
    super(error.message || `the collector answered ${status}`);
    this.status = status;
    this.code = error.code || "";
    this.errors = error.errors || [];
    this.retryAfter = retryAfter;
  }
}

// A tenant may have two queries under way at once unless it was given more: the page's own wait here, not there.
const AT_ONCE = 2;
let running = 0;
const waiting = [];

async function taken(work, signal) {
  if (running >= AT_ONCE) await new Promise((go) => waiting.push(go)); // who leaves hands its place on
  else running += 1;
  try {
    signal?.throwIfAborted();
    return await work();
  } finally {
    if (waiting.length) waiting.shift()();
    else running -= 1;
  }
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export const query = (params = {}) => {
  const kept = Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return kept.length ? `?${new URLSearchParams(kept)}` : "";
};

function asked(path, { params, method = "GET", body, signal, headers = {} } = {}) {
  const url = (path.startsWith("/api/") ? path : API + path) + query(params);
  const sent = { "X-API-Key": key.get(), Accept: "application/json", ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  return fetch(url, {
    method, signal, headers: sent, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body),
  });
}

async function failure(answer) {
  const body = await answer.json().catch(() => null);
  return new ApiError(answer.status, body, Number(answer.headers.get("Retry-After")) || 0);
}

// JSON of one answer. Throws ApiError; TypeError where the collector cannot be reached; AbortError.
export const call = (path, options = {}) => taken(async () => {
  for (let tries = 0; ; tries += 1) {
    const answer = await asked(path, options);
    if (answer.ok) return answer.status === 204 ? null : answer.json();
    const error = await failure(answer);
    const again = (options.method || "GET") === "GET" && (error.status === 429 || error.status === 503);
    if (!again || tries >= 3) throw error;
    await pause(1000 * Math.min(error.retryAfter || 1, 5));
    options.signal?.throwIfAborted();
  }
}, options.signal);

// Server-Sent Events with a header, which EventSource cannot send. Ends with the stream; throws as `call` does.
export async function events(path, { params, signal, last, onEvent }) {
  const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
  const answer = await asked(path, { params, signal, headers });
  if (!answer.ok) throw await failure(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const said = { event: "message", data: "", id: "" };
      for (const line of part.split("\n")) {
        const at = line.indexOf(":");
        if (at > 0) said[line.slice(0, at)] = line.slice(at + 1).trimStart();
      }
      if (said.data) onEvent(said.event, JSON.parse(said.data), said.id);
    }
  }
}

// The bytes of an answer that is a file, as they come. `onBytes` is told how many there are.
export async function bytes(path, { params, signal, onBytes }) {
  const answer = await asked(path, { params, signal, headers: { Accept: "*/*" } });
  if (!answer.ok) throw await failure(answer);
  const chunks = [];
  let size = 0;
  const reader = answer.body.getReader();
  for (;;) {
    const { done, value } = await reader.read(); // a stream that was cut off throws: half a file is not offered as a whole
    if (done) return new Blob(chunks, { type: answer.headers.get("Content-Type") || "application/octet-stream" });
    chunks.push(value);
    size += value.length;
    onBytes(size);
  }
}
