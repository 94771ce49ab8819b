// The page of the server: sends each image to `/predict`, and to `/explain` when it is opened.
// Names and messages are only ever set as text.

/** The most requests at a time. */
const AT_ONCE = 4;
/** The most attempts while the server is busy. */
const ATTEMPTS = 6;
/** The number of classes in an answer. */
const TOP = 5;

const MEANINGS = {
  gradcam: (name) => `Bright regions raise “${name}”.`,
  guided: (name) => `Bright pixels are those whose change raises “${name}” most.`,
  "guided-gradcam": (name) => `Bright pixels are details in the regions that raise “${name}”.`,
  occlusion: (name) => `Covering a bright region lowers the probability of “${name}”.`,
};

const byId = (id) => document.getElementById(id);
const fromTemplate = (id) => byId(id).content.cloneNode(true);

/** What `/info` says. */
let info = { classes: [], max_body: Infinity };
/** All images, in the order of the table. */
let items = [];
let added = 0;
/** The last chosen opacity in percent, and the last chosen method. */
const chosen = { opacity: 50, method: "gradcam" };

/** An error with a message for people. `temporary` errors may not occur again. */
class Failure extends Error {
  constructor(message, temporary = false) {
    super(message);
    this.temporary = temporary;
  }
}

function percent(probability) {
  const value = 100 * probability;
  return value > 0 && value < 0.1 ? "< 0.1%" : `${value.toFixed(1)}%`;
}

function count(number, one, several = `${one}s`) {
  return `${number} ${number === 1 ? one : several}`;
}

function say(text, isError = false, isSeen = true) {
  const status = byId("status");
  status.textContent = text;
  status.classList.toggle("error", isError);
  status.classList.toggle("unseen", !isSeen);
}

// Requests

let free = AT_ONCE;
const queue = [];

/** Runs a task when fewer than `AT_ONCE` run. */
async function inTurn(task) {
  if (free > 0) free -= 1;
  else await new Promise((start) => queue.push(start));
  try {
    return await task();
  } finally {
    const next = queue.shift();
    if (next) next();
    else free += 1;
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** Sends a request. Waits while the server is busy, and tells it to `onWait`. */
async function request(path, options, onWait) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await fetch(path, options).catch((error) => {
      if (options.signal.aborted) throw error;
      throw new Failure("The server does not answer. Is it still running?", true);
    });
    if (response.status === 503 && attempt < ATTEMPTS) {
      const seconds = Math.min(Math.max(Number(response.headers.get("Retry-After")) || 1, 1), 30);
      onWait(`The server is busy. Trying again in ${seconds} s.`);
      await pause(seconds, options.signal);
      continue;
    }
    const body = await response.json().catch(() => undefined);
    // `/predict` answers with an array, which has one element for one image.
    const answer = Array.isArray(body) ? body[0] : body;
    if (!response.ok || !answer || answer.error) {
      const message = answer?.error ?? `The server answered with status ${response.status}.`;
      throw new Failure(message, response.status >= 500);
    }
    return answer;
  }
}

async function send(path, file, signal, onWait) {
  if (file.size > info.max_body) {
    const [size, most] = [file.size, info.max_body].map((n) => (n / 2 ** 20).toFixed(1));
    throw new Failure(`The file has ${size} MiB; the server accepts up to ${most} MiB.`);
  }
  await file.slice(0, 1).arrayBuffer().catch(() => {
    throw new Failure("This cannot be read. Is it a folder, or was it moved?");
  });
  const headers = { "Content-Type": "application/octet-stream" };
  const options = { method: "POST", body: file, headers, signal };
  return inTurn(() => request(path, options, onWait));
}

// Images

/** Adds image files before those that are there, and classifies them. */
function add(files) {
  const batch = [...files].map(newItem);
  if (batch.length === 0) return;
  items = [...batch, ...items];
  byId("rows").prepend(...batch.flatMap((item) => [item.row, item.detail]));
  if (batch.length === 1) {
    items.forEach((item) => open(item, item === batch[0]));
  }
  layOut();
  batch.forEach(classify);
  report();
}

function newItem(file) {
  const [row, detail] = fromTemplate("row-template").children;
  added += 1;
  detail.id = `detail-${added}`;
  const item = {
    id: added,
    file,
    row,
    detail,
    url: URL.createObjectURL(file),
    // The answer of the server or a `Failure`; neither while it is classified.
    answer: undefined,
    failure: undefined,
    isOpen: false,
    viewer: undefined,
    maps: new Map(),
    removed: new AbortController(),
  };
  row.querySelector(".thumbnail").append(picture(item, ""));
  row.addEventListener("click", (event) => {
    if (!event.target.closest("button")) row.querySelector(".name button")?.click();
  });
  return item;
}

/** Returns the image of an item, or a placeholder if the browser cannot display it. */
function picture(item, text) {
  const image = document.createElement("img");
  image.className = "image";
  image.alt = text;
  image.addEventListener("error", () => {
    const placeholder = document.createElement("div");
    placeholder.className = "image placeholder";
    placeholder.textContent = item.file.name.match(/\.(\w{1,5})$/)?.[1].toUpperCase() ?? "?";
    placeholder.setAttribute("role", "img");
    placeholder.setAttribute("aria-label", "No preview");
    placeholder.title = "This browser cannot display the file";
    image.replaceWith(placeholder);
  });
  // The image must lie under the overlay as the network saw it.
  if (info.exif_orientation === "ignore") image.style.imageOrientation = "none";
  image.src = item.url;
  return image;
}

async function classify(item) {
  item.failure = undefined;
  drawRow(item, "Classifying …");
  try {
    const wait = (text) => {
      drawRow(item, text);
      say(text);
    };
    item.answer = await send(`predict?topk=${TOP}`, item.file, item.removed.signal, wait);
  } catch (error) {
    if (item.removed.signal.aborted) return;
    item.failure = asFailure(error);
  }
  drawRow(item);
  layOut();
  report();
}

function asFailure(error) {
  return error instanceof Failure ? error : new Failure(`This page failed: ${error.message}`);
}

/** Draws the row of an item; `progress` says what is going on before there is a result. */
function drawRow(item, progress) {
  const [name, label, probability] = [...item.row.children].slice(1);
  const { answer, failure } = item;
  name.textContent = item.file.name;
  label.textContent = answer?.class ?? failure?.message ?? progress;
  label.classList.toggle("error", Boolean(failure));
  label.colSpan = answer ? 1 : 2;
  probability.hidden = !answer;
  if (answer) {
    probability.textContent = percent(answer.probability);
    const button = newButton("", () => {
      open(item, !item.isOpen);
      layOut();
    });
    button.append(document.createElement("span"));
    button.firstChild.textContent = button.title = item.file.name;
    button.setAttribute("aria-controls", item.detail.id);
    button.setAttribute("aria-expanded", item.isOpen);
    name.replaceChildren(button);
  }
  if (failure?.temporary) {
    label.append(" ", newButton("Try again", () => retry(item)));
  }
}

function newButton(text, onClick) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.addEventListener("click", onClick);
  return button;
}

function retry(item) {
  byId("choose").focus({ preventScroll: true });
  classify(item);
  layOut();
  report();
}

function open(item, isOpen) {
  item.isOpen = isOpen;
  const button = item.row.querySelector(".name button");
  if (button) button.setAttribute("aria-expanded", isOpen);
}

/** Shows one image by itself, several in a table. */
function layOut() {
  const [only] = items.length === 1 ? items : [];
  document.body.classList.toggle("has-results", items.length > 0);
  byId("results").hidden = items.length === 0;
  byId("table").hidden = items.length < 2;
  byId("csv").disabled = !items.some((item) => item.answer || item.failure);
  byId("single").replaceChildren();
  for (const item of items) {
    const isShown = Boolean(item.answer) && (item.isOpen || item === only);
    if (isShown) item.viewer ??= newViewer(item);
    item.detail.hidden = !isShown || item === only;
    if (isShown && item !== only) item.detail.firstElementChild.append(item.viewer);
  }
  if (only?.answer) byId("single").append(only.viewer);
  else if (only) byId("single").append(waiting(only));
}

/** Returns what is shown of a single image without an answer. */
function waiting(item) {
  const box = document.createElement("div");
  box.className = "waiting";
  const text = document.createElement("p");
  text.textContent = item.failure ? `${item.file.name}: ${item.failure.message}` : item.file.name;
  text.classList.toggle("error", Boolean(item.failure));
  box.append(picture(item, ""), text);
  if (item.failure?.temporary) box.append(newButton("Try again", () => retry(item)));
  return box;
}

/** Says how many images are classified. */
function report() {
  const failed = items.filter((item) => item.failure);
  const answered = items.filter((item) => item.answer);
  const done = failed.length + answered.length;
  const [only] = items.length === 1 ? items : [];
  if (items.length === 0) {
    say("");
  } else if (done < items.length) {
    say(`Classifying: ${done} of ${count(items.length, "image")} done`);
  } else if (only?.failure) {
    // A single image shows its result itself: this is for screen readers.
    say(`${only.file.name}: ${only.failure.message}`, true, false);
  } else if (only) {
    const { class: name, probability } = only.answer;
    say(`${only.file.name}: ${name}, ${percent(probability)}`, false, false);
  } else {
    const errors = failed.length > 0 ? `, ${count(failed.length, "error")}` : "";
    say(`${count(answered.length, "image")} classified${errors}`, answered.length === 0);
  }
}

function clear() {
  for (const item of items) {
    item.removed.abort();
    URL.revokeObjectURL(item.url);
  }
  items = [];
  byId("rows").replaceChildren();
  layOut();
  report();
  byId("choose").focus();
}

// The view of one image

function newViewer(item) {
  const viewer = fromTemplate("viewer-template").firstElementChild;
  const find = (selector) => viewer.querySelector(selector);
  const { answer } = item;
  find(".title .name").textContent = item.file.name;
  find("h3 .class").textContent = answer.class;
  find("h3 .probability").textContent = percent(answer.probability);
  const text = `${item.file.name}, classified as ${answer.class}`;
  const image = picture(item, text);
  find(".frame").prepend(image);

  const [slider, output, overlay] = [find(".slider input"), find("output"), find(".overlay")];
  if (info.resize_crop) image.addEventListener("load", () => placeOverCenter(overlay, image));
  slider.value = chosen.opacity;
  const setOpacity = () => {
    chosen.opacity = slider.valueAsNumber;
    output.textContent = `${slider.value}%`;
    overlay.style.opacity = slider.value / 100;
  };
  slider.addEventListener("input", setOpacity);
  setOpacity();

  const explain = explainer(item, viewer);
  find("fieldset").append(...answer.top.map(({ class: name, probability }, rank) => {
    const bar = fromTemplate("bar-template").firstElementChild;
    const radio = bar.querySelector("input");
    radio.name = `class-${item.id}`;
    radio.value = name;
    radio.checked = rank === 0;
    radio.addEventListener("change", () => explain({ class: name }));
    bar.querySelector(".class").textContent = name;
    bar.querySelector(".track span").style.inlineSize = `${100 * probability}%`;
    bar.querySelector(".probability").textContent = percent(probability);
    return bar;
  }));

  const others = info.classes.filter((name) => !answer.top.some((top) => top.class === name));
  const other = find(".other select");
  find(".other").hidden = others.length === 0;
  other.append(...["", ...others].map((name) => new Option(name)));
  other.addEventListener("change", () => {
    const radio = find("fieldset input:checked") ?? find("fieldset input");
    radio.checked = other.value === "";
    explain({ class: other.value || radio.value });
  });
  find("fieldset").addEventListener("change", () => { other.value = ""; });

  const method = find(".method select");
  method.value = chosen.method;
  method.addEventListener("change", () => {
    chosen.method = method.value;
    explain({ method: method.value });
  });
  explain({ class: answer.class, method: method.value });
  return viewer;
}

/** Lays the overlay over the center of the image, which is all that the network sees. */
function placeOverCenter(overlay, image) {
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const side = Math.min(width, height) * info.input_size / info.resize_crop;
  Object.assign(overlay.style, {
    inset: `${50 * (1 - side / height)}% ${50 * (1 - side / width)}%`,
    inlineSize: `${100 * side / width}%`,
    blockSize: `${100 * side / height}%`,
  });
}

/** Returns a function that lays a map over the image; the last call counts. */
function explainer(item, viewer) {
  const [frame, meaning, overlay, scale] = [".frame", ".meaning", ".overlay", ".scale"]
    .map((selector) => viewer.querySelector(selector));
  const wanted = {};
  let running = new AbortController();
  return async (change) => {
    Object.assign(wanted, change);
    running.abort();
    running = new AbortController();
    const signal = AbortSignal.any([running.signal, item.removed.signal]);
    const parameters = new URLSearchParams(wanted).toString();
    const show = (text) => { meaning.textContent = text; };
    meaning.classList.remove("error");
    if (!item.maps.has(parameters)) {
      show("Computing the overlay …");
      frame.classList.add("busy");
      try {
        item.maps.set(parameters, await send(`explain?${parameters}`, item.file, signal, show));
      } catch (error) {
        if (signal.aborted) return;
        overlay.hidden = scale.hidden = true;
        frame.classList.remove("busy");
        show(asFailure(error).message);
        meaning.classList.add("error");
        return;
      }
      if (signal.aborted) return;
    }
    const map = item.maps.get(parameters);
    frame.classList.remove("busy");
    overlay.hidden = scale.hidden = !map.positive_evidence;
    overlay.src = map.heatmap;
    overlay.alt = `Overlay: what raises ${map.class}`;
    show(map.positive_evidence ? MEANINGS[map.method](map.class) : "No region raises this class.");
  };
}

// CSV

/** Quotes a cell, and makes text of what a spreadsheet would take for a formula. */
function cell(value) {
  const text = String(value).replace(/^[=+\-@\t\r]/, "'$&");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Returns the rows of `alexnet predict --format csv`. */
function csv() {
  const rows = items.flatMap(({ file, answer, failure }) => {
    if (failure) return [[file.name, "", "", "", failure.message]];
    return (answer?.top ?? []).map((top, index) =>
      [file.name, index + 1, top.class, top.probability, ""]);
  });
  return [["path", "rank", "class", "probability", "error"], ...rows]
    .map((row) => `${row.map(cell).join(",")}\n`).join("");
}

function downloadCsv() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "predictions.csv";
  link.click();
  // The download has started by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Model

async function describe() {
  const response = await fetch("info");
  info = await response.json();
  const { weights, variant, engine, device, classes, input_size: size, max_body: most } = info;
  const computes = engine === device ? engine : `${engine} on ${device}`;
  const file = weights.split(/[/\\]/).pop();
  byId("summary").textContent = [file, computes, count(classes.length, "class", "classes")]
    .join(" · ");
  const facts = {
    Weights: weights,
    Network: `${variant}, ${size}×${size} pixels`,
    Engine: computes,
    Version: `${info.name} ${info.version}`,
    "Largest file": `${Math.floor(most / 2 ** 20)} MiB`,
    Classes: classes.join(", "),
  };
  for (const [term, value] of Object.entries(facts)) {
    const pair = document.createElement("div");
    const [dt, dd] = ["dt", "dd"].map((tag) => pair.appendChild(document.createElement(tag)));
    dt.textContent = term;
    dd.textContent = value;
    byId("facts").append(pair);
  }
}

// Inputs

for (const [button, input] of [["choose", "files"], ["photograph", "camera"]]) {
  byId(button).addEventListener("click", () => byId(input).click());
  byId(input).addEventListener("change", ({ target }) => {
    add(target.files);
    // The same file can be chosen again.
    target.value = "";
  });
}

byId("photograph").hidden = navigator.maxTouchPoints === 0;

const setDragging = (is) => document.body.classList.toggle("dragging", is);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  setDragging(event.dataTransfer.types.includes("Files"));
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) setDragging(false);
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  setDragging(false);
  const { files } = event.dataTransfer;
  if (files.length > 0) add(files);
  else say("This is not a file. Save the image and drop its file, or copy and paste it.", true);
});
document.addEventListener("paste", (event) => add(event.clipboardData.files));

byId("csv").addEventListener("click", downloadCsv);
byId("clear").addEventListener("click", clear);

describe().catch(() => say("The server does not say which model it uses. Reload the page.", true));
