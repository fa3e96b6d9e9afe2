// ---- two versions side by side

const called = (one, role = one.aliases?.join(", ")) => `Version ${one.version}${role ? ` (${said(role)})` : ""}`;

async function showVersions(champion) {
  const others = (await call("v1/versions")).filter(one => one.version !== champion.version);
  const [none] = at("against").options, chosen = at("against").value;
  at("against").replaceChildren(none, ...others.map(one => element("option", { value: one.version }, called(one).toLowerCase())));
  at("against").value = others.some(one => one.version === chosen) ? chosen : "";
  at("against-field").hidden = !others.length;
  state.versions = others;
}

// A version that nobody has asked for is loaded first, which may take longer than a request may.
async function answerOf(version, signal) {
  for (let tries = 5; ; tries--) {
    try {
      return await call("v1/recommend", { ...request(), version, explore: false }, { signal });
    } catch (error) {
      if (error.status !== 408 || tries === 1) throw error;
    }
  }
}

const compare = () => asking("pair", async signal => {
  const [champion] = await call("v1/models", undefined, { signal });
  const other = state.versions.find(one => one.version === at("against").value);
  if (at("pair").hidden) at("status").textContent = `${called(other)} is asked …`;
  const [ours, theirs] = await Promise.all([champion, other].map(one => answerOf(one.version, signal)));
  showPair([called(champion, champion.role), ours.items], [called(other), theirs.items]);
  showModel(ours.model);
});

function showPair(one, other) {
  const ranks = [one, other].map(([, items]) => new Map(items.map(item => [item.item_id, item.rank])));
  const both = one[1].filter(item => ranks[1].has(item.item_id)), same = both.filter(item => ranks[1].get(item.item_id) === item.rank);
  at("status").textContent = `${both.length} of ${Math.max(one[1].length, other[1].length)} items are in both lists, ${same.length} of them at the same place.`;
  at("list").replaceChildren();
  const rows = Math.max(one[1].length, other[1].length, 1);
  at("pair").replaceChildren(...[one, other].map(([name, items], side) => spanning(rows + 1, element("div", {}, element("h3", {}, name),
    spanning(rows, element("ol", { class: "list" }, ...items.map(item => compared(item, ranks[1 - side].get(item.item_id)))))))));
  at("pair").hidden = false;
}

// Places of the same number stand beside each other.
function spanning(rows, made) {
  made.style.gridRow = `span ${rows}`;
  return made;
}

function compared(item, elsewhere) {
  const title = element("div", { class: "title" }, element("span", { class: "name", title: item.name }, item.name), ...item.cold ? [element("span", { class: "badge" }, "new")] : []);
  return element("li", { class: elsewhere === undefined ? "only" : "" }, element("span", { class: "rank" }, `${item.rank}.`),
    element("div", {}, title, element("p", { class: "faint" }, facts(item)), mark(item.rank, elsewhere)));
}

function mark(rank, elsewhere) {
  if (elsewhere === undefined) return element("span", { class: "mark" }, "only here");
  if (elsewhere === rank) return element("span", { class: "mark faint" }, "same place");
  const [arrow, word] = rank < elsewhere ? ["▲", "higher"] : ["▼", "lower"], by = Math.abs(rank - elsewhere);
  return element("span", { class: "mark faint" }, element("span", { "aria-hidden": "true" }, `${arrow} ${by}`),
    element("span", { class: "unseen" }, `${by} ${by === 1 ? "place" : "places"} ${word} here`));
}
