// Nothing there yet: how to send something, with this tenant's key in it.

import { html, useState } from "./vendor/preact-htm.js";
import { key } from "./api.js";

const ways = (url, api) => ({
  "Log files": `# agent.yaml
sources:
  - name: app
    include: [/var/log/app/*.log*]
collector:
  url: ${url}
  api_key: ${api}

# then
pulsestream-agent run --config agent.yaml`,
  curl: `curl -s -H "X-API-Key: ${api}" "${url}/api/v1/ingestion/events" -d '{
  "event_type": "user_action", "title": "Order paid",
  "source": {"service": "shop", "endpoint": "/orders/17", "method": "POST"}}'`,
  Python: `import json, urllib.request

event = {"event_type": "user_action", "title": "Order paid", "event_id": "order-17-paid",
         "source": {"service": "shop", "endpoint": "/orders/17", "method": "POST"}}
request = urllib.request.Request("${url}/api/v1/ingestion/events", json.dumps(event).encode(),
                                 {"X-API-Key": "${api}", "Content-Type": "application/json"})
print(urllib.request.urlopen(request).read().decode())`,
  OpenTelemetry: `# The OpenTelemetry collector writes what it has to a file, and the agent ships the file:
# otel.yaml
exporters:
  file:
    path: /var/log/otel/logs.json
    rotation: {max_megabytes: 100}

# agent.yaml
sources:
  - name: otel
    format: json
    include: [/var/log/otel/logs*.json*]
collector:
  url: ${url}
  api_key: ${api}`,
});

export function First({ whose }) {
  const [way, setWay] = useState("Log files");
  const texts = ways(location.origin, key.get());
  return html`<section class="first" aria-label="How to send events">
    <h2>Nothing is here yet</h2>
    <p>${whose.name} has no events. Send some, and they show up here within a second:</p>
    <div role="tablist" aria-label="Ways to send">${Object.keys(texts).map((name) => html`<button role="tab" aria-selected=${name === way} onClick=${() => setWay(name)}>${name}</button>`)}</div>
    <pre class="whole" tabindex="0" aria-label=${way}>${texts[way]}</pre>
    ${!whose.scopes.includes("ingest") && html`<p class="quiet">The key of this tab may not send (${whose.scopes.join(", ")}): use one with the scope ingest.</p>`}
  </section>`;
}
