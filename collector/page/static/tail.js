// What is committed from now on, as it is committed. Reconnects by itself where it was, and says what it could not show.

import { ApiError, events } from "./api.js";

const KEPT = 5000; // rows of a tail that are kept in the list; older ones leave it
const EACH_MS = 200; // so often the list is drawn anew, however many events come

// Starts a tail; returns what ends it. `onRows(rows)`: newest first, `onSay({state, missed, rate, error})`.
export function follow(params, { onRows, onSay }) {
  const ended = new AbortController();
  let last = "", missed = 0, came = [], paused = false, seen = 0, rateAt = Date.now(), rate = 0;
  const say = (more) => onSay({ state: "live", missed, rate, waiting: paused ? came.length : 0, ...more });
  const draw = setInterval(() => {
    if (Date.now() - rateAt >= 1000) {
      rate = Math.round((seen * 1000) / (Date.now() - rateAt));
      seen = 0;
      rateAt = Date.now();
      say({ state: paused ? "paused" : state });
    }
    if (!came.length || paused) return;
    const rows = came.reverse();
    came = [];
    onRows(rows);
  }, EACH_MS);
  let state = "connecting";

  const onEvent = (name, data, id) => {
    if (id) last = id;
    if (name === "gap") { missed += data.missed || 0; say({}); return; }
    if (name === "error") throw new ApiError(401, data);
    if (name === "open" || !data.id) return;
    seen += 1;
    came.push(data);
    if (came.length > KEPT) { missed += came.length - KEPT; came = came.slice(-KEPT); } // paused for long: the oldest are skipped, and counted
  };

  (async () => {
    for (let wait = 1; !ended.signal.aborted; wait = Math.min(wait * 2, 15)) {
      try {
        state = "live";
        say({ state });
        await events("/events/tail", { params, signal: ended.signal, last, onEvent });
        wait = 1;
      } catch (error) {
        if (ended.signal.aborted) return;
        const final = error instanceof ApiError && error.status < 500 && error.status !== 429;
        state = final ? "ended" : "away";
        say({ state, error });
        if (final) return;
      }
      await new Promise((done) => setTimeout(done, wait * 1000));
    }
  })();

  return {
    end: () => { ended.abort(); clearInterval(draw); },
    pause: (value) => { paused = value; say({ state: value ? "paused" : state }); },
  };
}

export const kept = (rows) => (rows.length > KEPT ? rows.slice(0, KEPT) : rows);
