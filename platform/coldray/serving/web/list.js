// ---- the list

function request() {
  const asked = { candidates: at("candidates").value, diversity: Number(at("diversity").value), k: Number(at("k").value) };
  if (mode() === "profile") asked.user_attributes = entered("profile-field");
  if (mode() === "history" || mode() === "profile" && state.history.size) asked.history = [...state.history.keys()];
  else if (mode() === "user" && at("user").value.trim()) asked.user_id = at("user").value.trim();
  return asked;
}

const PATHS = {
  model: "from what this user clicked", history: "from the history", attributes: "all of them new, by their attributes alone",
  popularity: "by how many people clicked them", profile: "from what is known of who asks",
};

const PARTS = ["list", "pair"];
const onItsWay = () => PARTS.some(part => at(part).hasAttribute("aria-busy"));

// Does what makes a part of the page, in the place of what is being done; returns whether it was done.
async function asking(part, make) {
  state.asking?.abort();
  const control = state.asking = new AbortController();
  at("error").textContent = "";
  for (const one of PARTS) at(one).removeAttribute("aria-busy");
  at(part).setAttribute("aria-busy", "true");
  try {
    await make(control.signal);
    return true;
  } catch (error) {
    if (error.name === "AbortError") return false;
    show([], "");
    at("error").textContent = error.message;
    return false;
  } finally { if (state.asking === control) at(part).removeAttribute("aria-busy"); }
}

function recommend() {
  state.last = recommend;
  return at("against").value ? compare() : asking("list", async signal => {
    const answer = await call("v1/recommend", { ...request(), explain: true }, { signal });
    show(answer.items, `${answer.items.length} ${answer.items.length === 1 ? "item" : "items"}, ${PATHS[answer.path]}. ${answer.explanation.note}`);
    showModel(answer.model);
  });
}

// A list that is on its way would otherwise be shown as it was asked for before the change.
function again(ask = recommend) {
  if (at("list").children.length || onItsWay() || !at("pair").hidden || mode() !== "user") ask();
}

function show(items, status) {
  at("status").textContent = status;
  at("pair").hidden = true;
  at("list").replaceChildren(...items.map(place));
}

function place(item) {
  const title = element("div", { class: "title" }, element("span", { class: "name", title: item.name }, item.name));
  if (item.cold) title.append(element("span", { class: "badge" }, "new"));
  title.append(element("span", { class: "score" }, `score ${item.score.toPrecision(3)}`));
  const body = element("div", {}, title, element("p", { class: "faint" }, facts(item)));
  if (item.reasons?.length) body.append(element("ul", { class: "why" }, ...best(item.reasons).map(reason)));
  const actions = element("div", { class: "actions" });
  if (item.parts?.length) actions.append(parts(item));
  actions.append(
    element("button", { type: "button", class: "small", "aria-label": `More like ${item.name}`, onclick: () => alike(item) }, "More like this"),
    element("button", { type: "button", class: "small", "aria-label": `Add ${item.name} to the history`, onclick: () => { take(item); recommend(); } }, "Add to history"));
  if (state.made.has(item.item_id)) actions.append(
    element("button", { type: "button", class: "small", "aria-label": `Remove ${item.name}`, onclick: () => drop(item) }, "Remove"));
  body.append(actions);
  return element("li", { class: state.made.has(item.item_id) ? "fresh" : "" }, element("span", { class: "rank" }, `${item.rank}.`), body);
}

// One line for each item of the history.
function best(reasons) {
  const lines = new Map();
  for (const one of reasons) {
    const line = lines.get(one.item_id) || { name: one.name, share: 0, through: [] };
    line.share += one.share ?? 0;
    if (one.part) line.through.push(one.shared.length ? `${one.part}: ${one.shared.map(said).join(", ")}` : one.part);
    lines.set(one.item_id, line);
  }
  return [...lines.values()].sort((one, other) => other.share - one.share).slice(0, 3);
}

const reason = line => element("li", {}, element("strong", {}, brief(line.name)),
  ` ${line.through.length ? `– ${line.through.join("; ")} ` : ""}(${percent(line.share)})`);

function parts(item) {
  const most = Math.max(...item.parts.map(one => Math.abs(one.added))) || 1;
  const cells = item.parts.flatMap(one => {
    const fill = element("i", { class: one.added < 0 ? "minus" : "" });
    fill.style.width = `${100 * Math.abs(one.added) / most}%`;
    return [element("span", {}, one.part), element("span", { class: "bar", "aria-hidden": "true" }, fill), element("span", {}, percent(one.share))];
  });
  return element("details", {}, element("summary", { "aria-label": `What the score of ${item.name} is made of` }, "What the score is made of"),
    element("div", { class: "parts" }, ...cells));
}

function alike(item) {
  state.last = () => alike(item);
  return asking("list", async signal => {
    const answer = await call(`v1/similar/${encodeURIComponent(item.item_id)}?k=${at("k").value}`, undefined, { signal });
    show(answer.items, `Items like ${brief(item.name)}. The score is a cosine, of attributes and clicks.`);
    at("result").focus();
  });
}
