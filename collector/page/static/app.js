// The page: sign-in, and the two views. What is shown is in the address (place.js); what is asked goes through api.js.

import { html, render, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/preact-htm.js";
import { ApiError, bytes, call, key } from "./api.js";
import { Context, Detail } from "./detail.js";
import { FACETS, Facets } from "./facets.js";
import { First } from "./first.js";
import { Histogram, bySeverity } from "./histogram.js";
import { useOutside } from "./menus.js";
import { number, size, windowOf } from "./moments.js";
import { go, now } from "./place.js";
import { Range, Saved, SearchBar } from "./search.js";
import { COLUMNS, Table } from "./table.js";
import { follow, kept } from "./tail.js";
import { TenantView } from "./tenant.js";
import { marks, toggled } from "./terms.js";

const PAGE = 200;

function App() {
  const [whose, setWhose] = useState(null);
  const [error, setError] = useState(null);
  const look = async () => {
    if (!key.get()) { setWhose(null); return; }
    try {
      setWhose(await call("/key"));
      setError(null);
    } catch (fault) {
      if (fault instanceof ApiError && fault.status === 401) key.drop();
      setError(fault);
      setWhose(null);
    }
  };
  useEffect(() => { look(); }, []);
  if (!whose) return html`<${SignIn} error=${error} known=${Boolean(key.get())} onKey=${(value) => { key.set(value.trim()); setError(null); look(); }} onAgain=${look} />`;
  return html`<${Signed} whose=${whose} onOut=${() => { key.drop(); setWhose(null); }} />`;
}

function SignIn({ error, known, onKey, onAgain }) {
  const [value, setValue] = useState("");
  return html`<main class="signin"><h1>PulseStream</h1>
    <form onSubmit=${(event) => { event.preventDefault(); onKey(value); }}>
      <label for="key">API key <span class="quiet">with the scope search</span></label>
      <input id="key" type="password" value=${value} onInput=${(event) => setValue(event.target.value)} autocomplete="current-password" required placeholder="ps_…" aria-describedby="key-note" />
      <button>Sign in</button></form>
    ${error && html`<p class="fault" role="alert">${error instanceof TypeError ? "The collector cannot be reached." : error.message}</p>`}
    ${error && known && html`<button onClick=${onAgain}>Try again</button>`}
    <p class="quiet" id="key-note">The key stays in this tab and is gone when it is closed. Whoever runs the collector makes one: pulsestream-collector tenant key add TENANT --scope search</p></main>`;
}

function usePlace() {
  const [place, setPlace] = useState(now);
  useEffect(() => {
    const back = () => setPlace(now());
    addEventListener("popstate", back);
    return () => removeEventListener("popstate", back);
  }, []);
  const change = useCallback((more, options) => setPlace((old) => {
    const next = { ...old, ...more };
    go(next, options);
    return next;
  }), []);
  return [place, change];
}

function Signed({ whose, onOut }) {
  const [place, change] = usePlace();
  const [help, setHelp] = useState(false);
  const [online, setOnline] = useState(navigator.onLine);
  useEffect(() => {
    const said = () => setOnline(navigator.onLine);
    addEventListener("online", said);
    addEventListener("offline", said);
    return () => { removeEventListener("online", said); removeEventListener("offline", said); };
  }, []);
  return html`
    <header class="top"><h1>PulseStream</h1>
      <nav aria-label="Views"><button aria-current=${place.view === "events" ? "page" : undefined} onClick=${() => change({ view: "events" })}>Events</button>
        <button aria-current=${place.view === "tenant" ? "page" : undefined} onClick=${() => change({ view: "tenant" })}>${whose.name || whose.slug}</button></nav>
      <span class="spring"></span><button onClick=${() => setHelp(true)} aria-label="Keys and syntax" title="?">?</button><button onClick=${onOut}>Sign out</button></header>
    ${!online && html`<p class="banner" role="status">This machine is offline: what is shown may be old.</p>`}
    ${place.view === "tenant" ? html`<main><${TenantView} whose=${whose} utc=${place.utc} /></main>` : html`<${Events} whose=${whose} place=${place} change=${change} help=${help} setHelp=${setHelp} />`}
    ${help && html`<${Help} onClose=${() => setHelp(false)} />`}`;
}

// The page of the events: one question at a time, and everything that was asked before is given up.
function Events({ whose, place, change, help, setHelp }) {
  const [found, setFound] = useState({ rows: [], busy: true });
  const [figures, setFigures] = useState({});
  const [fields, setFields] = useState([]);
  const [live, setLive] = useState(null);
  const [again, setAgain] = useState(0);
  const input = useRef(null), asked = useRef(null), tail = useRef(null), windowAsked = useRef(null);
  const { q, from, to } = place;
  const words = useMemo(() => marks(q), [q]);
  const columns = useMemo(() => (place.cols ? place.cols.split(",") : COLUMNS), [place.cols]);

  const figure = async (params, signal) => {
    setFigures((old) => ({ ...old, busy: true }));
    const one = (name, path, more, made = (answer) => answer) => call(path, { params: { ...params, ...more }, signal })
      .then((answer) => setFigures((old) => ({ ...old, [name]: made(answer), [`${name}Error`]: null })))
      .catch((error) => { if (!signal.aborted) setFigures((old) => ({ ...old, [name]: null, [`${name}Error`]: error })); });
    await Promise.all([one("histogram", "/events/histogram", { by: "severity" }, bySeverity), one("facets", "/events/facets", { fields: FACETS.join(","), limit: 20 })]);
    if (!signal.aborted) setFigures((old) => ({ ...old, busy: false }));
  };

  useEffect(() => {
    if (place.live) return undefined;
    const asking = new AbortController();
    asked.current = asking;
    const range = windowOf({ from, to });
    windowAsked.current = range;
    const params = { q, ...range };
    setFound((old) => ({ ...old, busy: true }));
    const began = performance.now();
    call("/events/search", { params: { ...params, limit: PAGE }, signal: asking.signal }).then((answer) => {
      setFound({ rows: answer.events, cursor: answer.next_cursor, more: answer.has_more, total: answer.total_count, exact: answer.total_is_exact,
        partial: answer.partial, took: performance.now() - began, params });
      figure(params, asking.signal);
    }).catch((error) => { if (!asking.signal.aborted) setFound((old) => ({ ...old, busy: false, error })); });
    return () => asking.abort();
  }, [q, from, to, place.live, again]);

  useEffect(() => { // names for completion: once, and of what is there lately
    call("/events/fields", { params: windowOf({ from: "-24h", to: "" }) }).then((answer) => setFields(answer.fields)).catch(() => setFields([]));
  }, []);

  useEffect(() => { // the tail, while it is wanted
    if (!place.live) { setLive(null); return undefined; }
    setFound({ rows: [], busy: false, params: { q } });
    const following = follow({ q }, {
      onRows: (rows) => setFound((old) => ({ ...old, rows: kept([...rows, ...old.rows]) })),
      onSay: (said) => setLive((old) => ({ ...old, ...said })),
    });
    tail.current = following;
    return () => following.end();
  }, [place.live, q]);

  const more = async () => {
    if (found.busy || !found.more) return;
    setFound((old) => ({ ...old, busy: true }));
    try {
      const answer = await call("/events/search", { params: { ...found.params, limit: 1000, cursor: found.cursor, count: "none" }, signal: asked.current.signal });
      setFound((old) => ({ ...old, busy: false, rows: [...old.rows, ...answer.events], cursor: answer.next_cursor, more: answer.has_more }));
    } catch (error) {
      if (!asked.current.signal.aborted) setFound((old) => ({ ...old, busy: false, error }));
    }
  };

  const [single, setSingle] = useState(null);
  const chosen = found.rows.find((row) => row.id === place.event) || (single?.id === place.event ? single : null);
  useEffect(() => { // of a link: the event may lie outside of the window
    if (!place.event || found.rows.some((row) => row.id === place.event)) return;
    call(`/events/${encodeURIComponent(place.event)}`).then((event) => setSingle(event.event || event)).catch(() => setSingle(null));
  }, [place.event]);

  const here = useRef(""); // at once, also while what is shown lags behind fast fingers
  here.current = place.event;
  const choose = useCallback((event) => { here.current = event.id; change({ event: event.id }, { replace: true }); }, []);
  const toggle = (field, value, exclude) => change({ q: toggled(place.q, field.replace(/^attr\./, "attr."), value, exclude) });
  const move = (by) => {
    if (!found.rows.length) return;
    const at = found.rows.findIndex((row) => row.id === here.current);
    choose(found.rows[Math.min(Math.max(at + by, 0), found.rows.length - 1)]);
  };
  useLayoutEffect(() => { // before the next key can come: it is to meet what is shown
    const pressed = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
      if (event.key === "Escape") { // the topmost that is open
        if (help) setHelp(false); else if (place.context) change({ context: "" }); else if (place.event) change({ event: "" }); else return;
        event.preventDefault();
        return;
      }
      if (typing) return;
      const doing = {
        "/": () => input.current.focus(), j: () => move(1), k: () => move(-1), Enter: () => { if (event.target.tagName !== "BUTTON" && !place.event) move(1); else return false; return true; },
        "?": () => setHelp(true), c: () => { if (place.event) change({ context: place.event }); }, l: () => change({ live: !place.live }), r: () => setAgain(again + 1), w: () => change({ wrap: !place.wrap }, { replace: true }),
      }[event.key];
      if (doing && doing() !== false) event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  });

  const queryError = found.error instanceof ApiError && found.error.status === 422 ? found.error : null;
  const empty = !found.busy && !found.error && !found.rows.length;
  return html`<main class=${`events ${chosen ? "with-detail" : ""}`}>
    <div class="bar"><${SearchBar} place=${{ ...place, window: () => windowOf({ from, to }) }} fields=${fields} error=${queryError} busy=${found.busy} onChange=${(next, options) => { change(next, options); if (next.q === q) setAgain(again + 1); }} inputRef=${input} />
      <${Range} place=${place} onChange=${change} />
      <button aria-pressed=${place.live} onClick=${() => change({ live: !place.live })}>Live</button>
      <${Saved} place=${place} columns=${columns} onChange=${change} />
      <${Columns} columns=${columns} fields=${fields} wrap=${place.wrap} onChange=${change} />
      <${Export} params=${found.params} columns=${columns} /></div>
    ${place.live ? html`<${LiveLine} live=${live} count=${found.rows.length} onPause=${(value) => tail.current.pause(value)} />`
      : html`<${Histogram} answer=${figures.histogram} utc=${place.utc} busy=${figures.busy} onZoom=${(start, end) => change({ from: start, to: end })} />`}
    <p class="count" role="status">${place.live ? "" : said(found)}${found.partial ? html` <strong class="bad">Part of it: a bound of queries was met; a narrower range or more words find the rest.</strong>` : ""}</p>
    ${found.error && !queryError && html`<p class="fault" role="alert">${found.error instanceof TypeError ? "The collector cannot be reached." : found.error.message} <button onClick=${() => setAgain(again + 1)}>Try again</button></p>`}
    <div class="body">
      ${!place.live && html`<${Facets} answer=${figures.facets} q=${q} onToggle=${toggle} />`}
      ${empty && !place.live ? html`<${Nothing} whose=${whose} place=${place} onChange=${change} />`
        : html`<${Table} rows=${found.rows} columns=${columns} utc=${place.utc} wrap=${place.wrap} marks=${words} chosen=${place.event} onChoose=${choose} onMore=${more} more=${found.more} busy=${found.busy} follow=${place.live} />`}
      ${chosen && html`<${Detail} event=${chosen} place=${place} marks=${words} onToggle=${toggle} onClose=${() => change({ event: "" }, { replace: true })} onContext=${() => change({ context: chosen.id })} />`}
    </div>
    ${place.context && html`<${Context} id=${place.context} utc=${place.utc} onClose=${() => change({ context: "" })} onChoose=${(event) => { setSingle(event); change({ context: "", event: event.id }); }} />`}
  </main>`;
}

function said({ rows, total, exact, busy, took, error }) {
  if (busy && !rows.length) return "Searching …";
  if (error) return "";
  const all = total === undefined || total === null ? "" : ` of ${exact ? "" : "more than "}${number(total)}`;
  return `${number(rows.length)}${all} events${took ? ` in ${Math.round(took)} ms` : ""}${busy ? ", searching …" : ""}`;
}

function Nothing({ whose, place, onChange }) {
  const [kept, setKept] = useState(null);
  useEffect(() => { call("/stats").then((stats) => setKept(stats.events)).catch(() => setKept(null)); }, []);
  if (kept && kept.count === 0) return html`<${First} whose=${whose} />`;
  return html`<div class="nothing"><h2>No event matches</h2><ul>
    ${place.q && html`<li>with <code>${place.q}</code>: <button class="link" onClick=${() => onChange({ q: "" })}>all events of this range</button></li>`}
    ${kept?.newest && html`<li>the newest event is of ${kept.newest.slice(0, 19)} UTC: <button class="link" onClick=${() => onChange({ from: "-30d", to: "" })}>the last 30 days</button></li>`}</ul></div>`;
}

function LiveLine({ live, count, onPause }) {
  const state = live?.state || "connecting";
  const texts = { live: "live", paused: "paused", away: "the collector is away; trying again", connecting: "connecting …", ended: live?.error?.message || "ended" };
  return html`<div class="live" role="status"><span class=${`dot ${state}`} aria-hidden="true"></span> ${texts[state]} · ${number(live?.rate || 0)}/s · ${number(count)} shown
    ${live?.waiting > 0 && html` · ${number(live.waiting)} waiting`} ${live?.missed > 0 && html` · <strong class="bad">${number(live.missed)} skipped: they came faster than they could be shown; a search has them</strong>`}
    <button aria-pressed=${state === "paused"} onClick=${() => onPause(state !== "paused")}>${state === "paused" ? "Go on" : "Pause"}</button></div>`;
}

function Columns({ columns, fields, wrap, onChange }) {
  const [open, setOpen] = useState(false);
  const box = useRef(null);
  useOutside(box, () => setOpen(false));
  const names = [...new Set([...COLUMNS, ...columns, ...fields.map(({ name }) => name)])];
  const put = (name, on) => {
    const next = on ? (columns.includes("message") && name !== "message" ? [...columns.filter((one) => one !== "message"), name, "message"] : [...columns, name]) : columns.filter((one) => one !== name);
    if (next.length) onChange({ cols: next.join(",") === COLUMNS.join(",") ? "" : next.join(",") }, { replace: true });
  };
  return html`<div class="menu" ref=${box} onKeyDown=${(event) => { if (event.key === "Escape") setOpen(false); }}>
    <button aria-expanded=${open} aria-haspopup="dialog" onClick=${() => setOpen(!open)}>Columns</button>
    ${open && html`<div class="sheet" role="dialog" aria-label="Columns"><label class="line"><input type="checkbox" checked=${wrap} onChange=${(event) => onChange({ wrap: event.target.checked }, { replace: true })} /> several lines for a message</label>
      <div class="names">${names.map((name) => html`<label class="line" key=${name}><input type="checkbox" checked=${columns.includes(name)} onChange=${(event) => put(name, event.target.checked)} /> ${name}</label>`)}</div></div>`}
  </div>`;
}

function Export({ params, columns }) {
  const [open, setOpen] = useState(false);
  const [state, setState] = useState({});
  const stop = useRef(null), box = useRef(null);
  useOutside(box, () => setOpen(false));
  const start = async (format) => {
    stop.current = new AbortController();
    setState({ format, size: 0 });
    try {
      const more = format === "csv" ? { columns: columns.join(","), csv_guard: true } : {};
      const file = await bytes("/events/export", { params: { ...params, format, ...more }, signal: stop.current.signal, onBytes: (count) => setState({ format, size: count }) });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(file);
      link.download = `events.${format}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
      setState({ done: `events.${format}, ${size(file.size)}` });
    } catch (error) {
      setState(stop.current.signal.aborted ? {} : { error });
    }
  };
  return html`<div class="menu" ref=${box} onKeyDown=${(event) => { if (event.key === "Escape") setOpen(false); }}>
    <button aria-expanded=${open} aria-haspopup="dialog" disabled=${!params} onClick=${() => setOpen(!open)}>Export</button>
    ${open && html`<div class="sheet" role="dialog" aria-label="Export"><p class="quiet">Every event that matches, the oldest first.</p>
      <div class="choices">${["ndjson", "csv", "parquet"].map((format) => html`<button disabled=${Boolean(state.format)} onClick=${() => start(format)}>${format}</button>`)}</div>
      <p role="status">${state.format ? html`${size(state.size)} … <button onClick=${() => stop.current.abort()}>Stop</button>` : state.done || ""}</p>
      ${state.error && html`<p class="fault" role="alert">${state.error instanceof ApiError ? state.error.message : "It was cut off: nothing was kept."}</p>`}</div>`}
  </div>`;
}

const KEYS = [["/", "to the query"], ["j, k", "next, last event"], ["Enter", "open the event"], ["c", "the lines around it"], ["l", "live"], ["r", "search again"], ["w", "several lines for a message"], ["Esc", "close what is open"], ["?", "this"]];
const SYNTAX = [["payment refused", "both words, in any case"], ['"connection reset"', "one right after the other"], ["time*, d?sk", "parts of words"], ["/after \\d+s/", "a regular expression"], ["service:shop", "a field, letter by letter"],
  ["level:>=warning", "severity from there up"], ["status:>=500, took.ms:[10 TO 20}", "numbers between bounds"], ["a AND (b OR c), NOT d, -d", "joined"], ["trace_id:*", "says it at all"], ["timestamp:>now-1h", "times"]];

function Help({ onClose }) {
  const box = useRef(null);
  useLayoutEffect(() => box.current.focus(), []);
  return html`<section class="help" role="dialog" aria-modal="true" aria-label="Keys and syntax" tabindex="-1" ref=${box} onKeyDown=${(event) => { if (event.key === "Escape") { onClose(); event.stopPropagation(); } }}>
    <header><h2>Keys</h2><button onClick=${onClose} aria-label="Close this" title="Esc">✕</button></header>
    <dl>${KEYS.map(([name, what]) => html`<div><dt><kbd>${name}</kbd></dt><dd>${what}</dd></div>`)}</dl>
    <h2>Queries</h2><dl>${SYNTAX.map(([name, what]) => html`<div><dt><code>${name}</code></dt><dd>${what}</dd></div>`)}</dl></section>`;
}

const page = document.getElementById("page");
page.textContent = "";
render(html`<${App} />`, page);
