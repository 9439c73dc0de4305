// The tenant's own view: what came in and what became of it, what is left of the budget, how the agents are, the keys.

import { html, useEffect, useState } from "./vendor/preact-htm.js";
import { call } from "./api.js";
import { ago, number, shown, size } from "./moments.js";

const OUTCOMES = ["accepted", "duplicate", "rejected", "expired", "rate_limited"];
const SAID = { accepted: "stored", duplicate: "sent again, stored once", rejected: "refused", expired: "older than the retention", rate_limited: "kept back by a limit" };

export function TenantView({ whose, utc }) {
  const [state, setState] = useState({});
  const [error, setError] = useState(null);
  useEffect(() => {
    let over = false;
    const look = async () => {
      try {
        const [outcomes, agents, left, stats] = [await call("/outcomes"), await call("/agents"), await call("/rate-limit"), await call("/stats")];
        if (!over) { setState({ outcomes, agents, left, stats }); setError(null); }
      } catch (fault) {
        if (!over) setError(fault);
      }
    };
    look();
    const again = setInterval(look, 10000);
    return () => { over = true; clearInterval(again); };
  }, []);
  const { outcomes, agents, left, stats } = state;
  if (!outcomes) return html`<div class="tenant">${error ? html`<p class="fault" role="alert">${error.message}</p>` : html`<p class="quiet">Looking …</p>`}</div>`;
  return html`<div class="tenant">
    ${error && html`<p class="fault" role="alert">${error.message}; shown is what was known before</p>`}
    <section aria-labelledby="h-in"><h2 id="h-in">What came in, last 24 hours</h2>
      <dl class="figures">${OUTCOMES.map((name) => html`<div key=${name} class=${`o-${name}`}><dt>${name.replace("_", " ")}</dt><dd>${number(outcomes.total[name])}</dd><dd class="quiet">${SAID[name]}</dd></div>`)}
        <div><dt>kept</dt><dd>${number(stats.events.count)}</dd><dd class="quiet">for ${whose.retention_days} days</dd></div></dl>
      <${Hours} hours=${outcomes.hours} utc=${utc} /></section>
    <section aria-labelledby="h-not"><h2 id="h-not">Not stored, by reason</h2>
      <${Rows} empty="Nothing was refused in the last 24 hours." head=${["outcome", "reason", "events", "bytes"]}
        rows=${outcomes.outcomes.filter(({ outcome }) => outcome !== "accepted" && outcome !== "duplicate").map((row) => [row.outcome, row.reason, number(row.events), size(row.bytes)])} />
      ${(outcomes.rejected || []).length > 0 && html`<h3>Refused lately</h3><${Rows} head=${["time", "event", "field", "why", "what was sent"]}
        rows=${outcomes.rejected.map((row) => [shown(row.time, utc), row.event_id, row.field, row.reason, row.value])} />`}</section>
    <section aria-labelledby="h-agents"><h2 id="h-agents">Agents</h2><${Agents} agents=${agents.agents} /></section>
    <section aria-labelledby="h-lost"><h2 id="h-lost">Lost before it was sent</h2>
      <${Rows} empty="No agent has lost a byte." head=${["time", "agent", "file", "reason", "bytes"]}
        rows=${outcomes.losses.newest.map((loss) => [shown(loss.time, utc), loss.agent, loss.path, loss.reason, `${loss.at_least ? "at least " : ""}${size(loss.lost_bytes ?? loss.bytes)}`])} /></section>
    <section aria-labelledby="h-left"><h2 id="h-left">Budget</h2>
      <${Rows} head=${["", "limit", "left"]} rows=${[
        ["events a minute", number(left.events.limit), number(left.events.remaining)],
        ["bytes a minute", size(left.bytes.limit), size(left.bytes.remaining)],
        ["events this month", left.month.limit === null ? "none" : number(left.month.limit), left.month.remaining === null ? `${number(left.month.used)} used` : number(left.month.remaining)],
      ]} /></section>
    <section aria-labelledby="h-keys"><h2 id="h-keys">Keys</h2><${Keys} whose=${whose} utc=${utc} /></section>
  </div>`;
}

function Rows({ head, rows, empty }) {
  if (!rows.length) return html`<p class="quiet">${empty}</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${head.join(", ")}><table class="plain"><thead><tr>${head.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr>${row.map((value) => html`<td>${value}</td>`)}</tr>`)}</tbody></table></div>`;
}

function Hours({ hours, utc }) {
  const most = Math.max(1, ...hours.map(({ outcomes }) => outcomes.reduce((sum, { events }) => sum + events, 0)));
  return html`<div class="hours" role="img" aria-label="Events by the hour and outcome">${hours.map(({ hour, outcomes }) => html`<div class="hour" key=${hour} title=${`${shown(hour, utc).slice(0, 16)}: ${outcomes.map(({ outcome, events }) => `${number(events)} ${outcome}`).join(", ")}`}>
    ${OUTCOMES.map((name) => {
      const count = outcomes.filter(({ outcome }) => outcome === name).reduce((sum, { events }) => sum + events, 0);
      return count > 0 && html`<span class=${`o-${name}`} style=${{ height: `${Math.max((count / most) * 72, 1)}px` }}></span>`;
    })}</div>`)}</div>`;
}

function Agents({ agents }) {
  if (!agents.length) return html`<p class="quiet">No agent was heard yet.</p>`;
  return html`${agents.map((agent) => html`<details key=${agent.agent + agent.scope} class=${agent.silent_seconds > 120 && !agent.stopped ? "silent" : ""}>
    <summary><strong>${agent.agent}</strong> ${agent.stopped ? "stopped" : agent.silent_seconds > 120 ? `silent for ${ago(agent.silent_seconds)}` : agent.sending}
      · ${size(agent.lag_bytes)} behind${agent.lag_seconds ? `, ${ago(agent.lag_seconds)}` : ""} · ${number(agent.files_total)} files
      ${agent.lost_bytes > 0 && html` · <strong class="bad">${size(agent.lost_bytes)} lost</strong>`}
      ${agent.quarantined_records > 0 && html` · <strong class="bad">${number(agent.quarantined_records)} set aside</strong>`} · ${agent.version}</summary>
    <${Rows} empty="It follows no file." head=${["file", "size", "read", "stored", "behind"]}
      rows=${agent.files.map((file) => [file.path + (file.error ? ` (${file.error})` : ""), size(file.size_bytes), size(file.read_bytes), file.acked_bytes === null ? "" : size(file.acked_bytes), `${size(file.lag_bytes)}${file.lag_seconds ? `, ${ago(file.lag_seconds)}` : ""}`])} />
  </details>`)}`;
}

function Keys({ whose, utc }) {
  const [keys, setKeys] = useState(null);
  const [made, setMade] = useState("");
  const [error, setError] = useState("");
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState(["ingest"]);
  const path = `/api/v1/tenants/${encodeURIComponent(whose.slug)}/keys`;
  const may = whose.scopes.includes("admin");
  const doing = async (work) => {
    try {
      setError("");
      await work();
      setKeys((await call(path)).keys);
    } catch (fault) {
      setError(fault.message);
    }
  };
  useEffect(() => { if (may) doing(async () => {}); }, []);
  if (!may) return html`<p class="quiet">Keys are shown, made and revoked with a key that has the scope admin; this one has ${whose.scopes.join(", ")}.</p>`;
  const make = (event) => {
    event.preventDefault();
    doing(async () => { setMade((await call(path, { method: "POST", body: { name, scopes } })).api_key); setName(""); });
  };
  const revoke = (id) => { if (confirm(`Revoke the key ${id}? Whoever uses it is refused within 5 seconds.`)) doing(() => call(`${path}/${id}`, { method: "DELETE" })); };
  return html`${error && html`<p class="fault" role="alert">${error}</p>`}
    ${made && html`<p class="made" role="status">The new key, shown this once: <code>${made}</code></p>`}
    <form class="line" onSubmit=${make}><label>Name <input value=${name} maxlength="200" onInput=${(event) => setName(event.target.value)} /></label>
      ${["ingest", "search", "delete", "admin"].map((scope) => html`<label key=${scope}><input type="checkbox" checked=${scopes.includes(scope)}
        onChange=${(event) => setScopes(event.target.checked ? [...scopes, scope] : scopes.filter((other) => other !== scope))} /> ${scope}</label>`)}
      <button disabled=${!scopes.length}>Make a key</button></form>
    ${keys && html`<${Rows} empty="There is no key." head=${["key", "name", "scopes", "made", "last used", "ends", ""]}
      rows=${keys.map((row) => [row.key_id, row.name, row.scopes.join(", "), shown(row.created, utc).slice(0, 16), row.last_used ? shown(row.last_used, utc).slice(0, 16) : "", row.revoked ? "revoked" : row.expires ? shown(row.expires, utc).slice(0, 16) : "",
        row.revoked ? "" : html`<button onClick=${() => revoke(row.key_id)}>Revoke</button>`])} />`}`;
}
