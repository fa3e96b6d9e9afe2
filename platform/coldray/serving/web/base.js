"use strict";
const FIRST_FIELDS = 6;
const at = id => document.getElementById(id);
const state = { catalogue: null, history: new Map(), made: new Set(), asking: null, last: null, beginning: null, seeking: 0, sought: "", active: -1, hits: [] };

// Text from the service goes into text nodes alone: a name is never markup.
function element(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

async function call(path, body, options = {}) {
  const headers = at("key").value ? { Authorization: `Bearer ${at("key").value}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const method = options.method || (body === undefined ? "GET" : "POST");
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: options.signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The service does not answer. Is it still running?");
  }
  if (answer.status === 401) at("key-field").hidden = false;
  if (answer.status === 204) return null;
  let content;
  try { content = JSON.parse(withTextIds(await answer.text())); } catch { content = null; }
  if (!answer.ok) throw Object.assign(new Error(content?.error?.message || `The service answered with status ${answer.status}.`), { status: answer.status });
  return content;
}

// Ids are text here, whatever they are in the data: a number of this language has 53 bits, an id may have 64. The service
// takes text for numbers. Within a text of JSON the first quotation mark of the pattern would be behind a backslash.
const withTextIds = json => json.replace(/"(item_id|some_user)":\s*(-?\d+)/g, '"$1":"$2"');
// A name may be an id of thousands of letters.
const LONGEST_NAME = 120;
function brief(name) {
  const letters = [...name];
  return letters.length > LONGEST_NAME ? `${letters.slice(0, LONGEST_NAME - 1).join("")}…` : name;
}
const said = label => String(label).replaceAll("_", " ");
const percent = share => share === null ? "–" : Math.abs(share) < 5e-4 ? "0\u00a0%"
  : `${(100 * share).toFixed(Math.abs(share) < 0.0995 ? 1 : 0)}\u00a0%`.replace("-", "−");
const mode = () => document.querySelector("input[name=mode]:checked").value;

function facts(item) {
  const kinds = state.catalogue.attributes.filter(one => one.name !== state.catalogue.name && one.name in item.attributes);
  const numbers = kinds.filter(one => one.kind === "number").slice(0, 1);
  const labels = kinds.filter(one => one.kind === "labels" && one.read).slice(0, 3);
  return [...numbers, ...labels].map(one => {
    const value = item.attributes[one.name];
    return Array.isArray(value) ? value.slice(0, 3).map(said).join(", ") : String(value);
  }).join(" · ");
}
