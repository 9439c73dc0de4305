// The query's text: terms put in and taken out, what stands at the caret, which words to mark. The collector alone parses it.

const PLAIN = /^[\p{L}\p{N}_][\p{L}\p{N}_.-]*$/u;
const OPERATORS = new Set(["AND", "OR", "NOT", "TO"]);
const BARE_NAME = /^[\p{L}_@][\p{L}\p{N}_.@-]*$/u;

export const quoted = (value) => {
  const text = String(value);
  return PLAIN.test(text) && !OPERATORS.has(text) ? text : `"${text.replace(/[\\"]/g, "\\$&")}"`;
};

const named = (field) => (BARE_NAME.test(field) ? field : field.replace(/[^\p{L}\p{N}_.@-]/gu, "\\$&"));

export const term = (field, value) => (value === "" ? `NOT _exists_:${named(field)}` : `${named(field)}:${quoted(value)}`);

// The parts of a query that stand at its top, parentheses and quotes kept whole.
export function topParts(text) {
  const parts = [];
  let part = "", depth = 0, quote = false;
  for (let at = 0; at < text.length; at += 1) {
    const sign = text[at];
    if (sign === "\\") { part += sign + (text[at + 1] ?? ""); at += 1; continue; }
    if (sign === '"') quote = !quote;
    if (!quote && (sign === "(" || sign === "[" || sign === "{")) depth += 1;
    if (!quote && (sign === ")" || sign === "]" || sign === "}")) depth -= 1;
    if (/\s/.test(sign) && !quote && depth <= 0) {
      if (part) parts.push(part);
      part = "";
    } else part += sign;
  }
  if (part) parts.push(part);
  return parts;
}

// The query with a term more, or without it when it is there; what it says the other way round goes.
export function toggled(text, field, value, exclude) {
  const wanted = (exclude ? "-" : "") + term(field, value);
  const other = (exclude ? "" : "-") + term(field, value);
  let parts = topParts(text);
  if (parts.includes(wanted)) return parts.filter((part) => part !== wanted).join(" ");
  parts = parts.filter((part) => part !== other);
  const rest = parts.join(" ");
  return [parts.includes("OR") ? `(${rest})` : rest, wanted].filter(Boolean).join(" ");
}

export const has = (text, field, value, exclude) => topParts(text).includes((exclude ? "-" : "") + term(field, value));

// What stands before the caret: a field's name being written, or a value of a field.
export function atCaret(text, caret) {
  const before = text.slice(0, caret);
  const from = Math.max(before.search(/[^\s()]*$/), 0);
  const word = before.slice(from).replace(/^[-+!]/, "");
  const start = caret - word.length;
  const colon = word.indexOf(":");
  return colon < 0
    ? { kind: "field", start, text: word }
    : { kind: "value", start: start + colon + 1, field: word.slice(0, colon), text: word.slice(colon + 1).replace(/^"/, "") };
}

// Words and phrases to mark in messages: what is asked of the text, not what is asked of fields or is excluded.
export function marks(text) {
  const found = [];
  for (const part of topParts(text.replace(/[()]/g, " "))) {
    if (/^[-!]/.test(part) || OPERATORS.has(part)) continue;
    const value = part.replace(/^(?:message|title):/, "");
    if (/^[^"\s]*[^\\"]:/.test(value) || value.startsWith("/")) continue;
    for (const word of value.replace(/"/g, " ").split(/[^\p{L}\p{N}*?]+/u)) {
      if (word.replace(/[*?]/g, "")) found.push(word.replace(/[*]/g, "\\S*").replace(/[?]/g, "\\S"));
    }
  }
  return found.length ? new RegExp(`(?<![\\p{L}\\p{N}])(?:${[...new Set(found)].join("|")})(?![\\p{L}\\p{N}])`, "giu") : null;
}

// Where a refusal points: the column, from its text.
export const faultColumn = (error) => {
  const found = /at column (\d+)/.exec(error.errors?.[0]?.error || error.message || "");
  return found ? Number(found[1]) : 0;
};
