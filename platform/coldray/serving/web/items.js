// ---- new items

function field(attribute) {
  const hints = [];
  if (attribute.kind === "labels") hints.push(`such as ${attribute.labels.slice(0, 3).join(", ")}`);
  if (attribute.kind === "number") hints.push("a number");
  if (attribute.kind === "vector") hints.push("numbers, divided by commas");
  if (!attribute.read) hints.push("shown only");
  const label = hints.join("; ");
  const input = element(attribute.kind === "text" && attribute.name !== state.catalogue.name ? "textarea" : "input", {
    "data-name": attribute.name, "data-kind": attribute.kind, autocomplete: "off", inputmode: attribute.kind === "number" ? "decimal" : null,
  });
  return element("div", { class: "field" }, element("label", {}, attribute.name, label ? element("span", { class: "faint" }, ` (${label})`) : "", input));
}

// Of who asks there is mostly one label under a name, so all are offered.
function personalField(attribute, place) {
  const made = field(attribute);
  if (!attribute.labels.length) return made;
  made.querySelector("input").setAttribute("list", `labels-${place}`);
  made.append(element("datalist", { id: `labels-${place}` }, ...attribute.labels.map(label => element("option", { value: label }))));
  return made;
}

function showForm() {
  at("profile-field").replaceChildren(...state.catalogue.user_attributes.map(personalField));
  at("profile-choice").hidden = !state.catalogue.user_attributes.length;
  // What it is called first, then what the model reads; short ones before texts.
  const order = one => one.name === state.catalogue.name ? 0 : (one.read ? 1 : 4) + ["number", "labels", "text", "vector"].indexOf(one.kind);
  const all = [...state.catalogue.attributes].sort((one, other) => order(one) - order(other));
  at("fields").replaceChildren(...all.slice(0, FIRST_FIELDS).map(field));
  at("rest-fields").replaceChildren(...all.slice(FIRST_FIELDS).map(field));
  at("rest").hidden = all.length <= FIRST_FIELDS;
  at("new-section").hidden = !state.catalogue.takes_new_items;
  proposeId();
}

function proposeId() {
  const now = Date.now();
  at("new-id").value = state.catalogue.item_ids === "number" ? String(Math.floor(now / 1000)) : `new-${now.toString(36)}`;
}

function entered(form) {
  const attributes = {};
  for (const input of document.querySelectorAll(`#${form} [data-name]`)) {
    const text = input.value.trim(), { name, kind } = input.dataset;
    if (!text) continue;
    if (kind === "labels") attributes[name] = [...new Set(text.split(",").map(label => label.trim()).filter(Boolean))];
    else if (kind === "vector") attributes[name] = text.split(/[\s,]+/).filter(Boolean).map(Number);
    else attributes[name] = kind === "number" && Number.isFinite(Number(text)) ? Number(text) : text;
  }
  return attributes;
}

async function add() {
  const button = at("add").querySelector("button");
  if (button.disabled) return;
  button.disabled = true;
  at("added").textContent = at("refused").textContent = "";
  try {
    const item = await call("v1/items", { item_id: at("new-id").value.trim(), attributes: entered("add") });
    state.made.add(item.item_id);
    at("add").reset(); // before what is entered next
    proposeId();
    const unread = Object.entries(item.unread_labels).map(([name, labels]) => `${name}: ${labels.map(brief).join(", ")}`);
    const told = unread.length ? ` The model does not know ${unread.join("; ")}, and makes nothing of it.` : "";
    at("added").textContent = `${brief(item.name)} is in the catalogue.${told} ${await rankOf(item)}`;
    await recommend();
  } catch (error) { at("refused").textContent = error.message; }
  finally { button.disabled = false; }
}

async function rankOf(item) {
  if (mode() === "history" && state.history.size === 0 || mode() === "user" && !at("user").value.trim()) return "Choose a user or a history to see it in a list.";
  const answer = await call("v1/recommend", { ...request(), candidates: "all", diversity: 0, k: 1000 });
  const found = answer.items.find(one => one.item_id === item.item_id);
  return found ? `Its place among all items: ${found.rank}.` : "It is not among the first 1000 of this list; choose new items to see it.";
}

async function drop(item) {
  try {
    await call(`v1/items/${encodeURIComponent(item.item_id)}`, undefined, { method: "DELETE" });
    state.made.delete(item.item_id);
    at("added").textContent = `${brief(item.name)} was removed.`;
    await recommend();
  } catch (error) { at("error").textContent = error.message; }
}
