// Uses the page of a running server in Chromium.
//
//   node page.test.mjs URL FOLDER PID
//
// FOLDER has ten images and the output of `alexnet predict --format csv` for them, `expected.csv`.
// PID is the process of the server, which the last test stops. The variable ALEXNET_CHROMIUM is the
// path of Chromium, ALEXNET_NODE_PACKAGES the folder with `node_modules`.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";

const [url, folder, pid] = process.argv.slice(2);
const require = createRequire(join(process.env.ALEXNET_NODE_PACKAGES, "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const images = readdirSync(folder).filter((name) => name.endsWith(".jpg")).sort();
assert.equal(images.length, 10);
/** The classes of each image, most probable first: `{ name, probability }`. */
const expected = {};
for (const [path, , name, probability] of parseCsv(readFileSync(join(folder, "expected.csv"), "utf8")).slice(1)) {
  (expected[basename(path)] ??= []).push({ name, probability: Number(probability) });
}

const text = { name: "notes.txt", bytes: Buffer.from("These are words.\n") };
const pnm = { name: "small.ppm", bytes: Buffer.concat([Buffer.from("P6\n4 4\n255\n"), Buffer.alloc(48, 90)]) };
const image = (index, name = images[index]) => ({ name, bytes: readFileSync(join(folder, images[index])) });

let browser;
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.ALEXNET_CHROMIUM });
});
after(() => browser.close());

/**
 * Defines a test with a page of its own. At its end, the page must have contacted only the server
 * and printed no error to the console, but for those in `errors`.
 */
function pageTest(name, { errors = [], ...options }, run) {
  test(name, { timeout: 60_000 }, async () => {
    // Bars are measured, so they must not grow.
    const context = await browser.newContext({ reducedMotion: "reduce", ...options });
    context.setDefaultTimeout(20_000);
    const page = await context.newPage();
    const problems = [];
    page.on("console", (message) => {
      const line = `${message.text()} (${message.location().url})`;
      if (message.type() !== "log" && !errors.some((known) => known.test(line))) problems.push(line);
    });
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("request", (request) => {
      const { origin, protocol } = new URL(request.url());
      if (origin !== new URL(url).origin && !["blob:", "data:"].includes(protocol)) {
        problems.push(`a request to ${request.url()}`);
      }
    });
    // Chromium reports file choosers only from some time after the first listener.
    page.on("filechooser", () => {});
    try {
      await page.goto(url);
      await page.locator("#facts dd").first().waitFor();
      await run(page);
      assert.deepEqual(problems, []);
    } finally {
      await context.close();
    }
  });
}

/** Creates a `DataTransfer` with files in the page. */
function transfer(page, files) {
  const encoded = files.map(({ name, bytes }) => ({ name, base64: bytes.toString("base64") }));
  return page.evaluateHandle((list) => {
    const data = new DataTransfer();
    for (const { name, base64 } of list) {
      const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      data.items.add(new File([bytes], name));
    }
    return data;
  }, encoded);
}

async function drop(page, ...files) {
  const dataTransfer = await transfer(page, files);
  await page.dispatchEvent("main", "dragover", { dataTransfer });
  await page.dispatchEvent("main", "drop", { dataTransfer });
}

/** Waits for a status, which may be for screen readers only. */
const status = (page, pattern) => page.locator("#status").filter({ hasText: pattern }).waitFor();

/** Waits for the overlay in a viewer. */
async function overlay(viewer) {
  const found = viewer.locator(".overlay:not([hidden])");
  await found.waitFor();
  await viewer.locator(".busy").waitFor({ state: "detached" });
  return found;
}

/** Asserts that a viewer has the classes and probabilities of `answer`, as text and as bars. */
async function assertBars(viewer, answer) {
  const bars = await viewer.locator(".bar").evaluateAll((elements) => elements.map((bar) => {
    const [track, fill] = [".track", ".track span"]
      .map((selector) => bar.querySelector(selector).getBoundingClientRect().width);
    return { text: bar.innerText.replace(/\s+/g, " ").trim(), share: fill / track, track };
  }));
  assert.equal(bars.length, answer.length);
  answer.forEach(({ name, probability }, rank) => {
    assert.equal(bars[rank].text, `${name} ${percent(probability)}`);
    // A bar is at least 2 pixels long.
    const tolerance = 2.5 / bars[rank].track;
    assert.ok(Math.abs(bars[rank].share - probability) <= tolerance, JSON.stringify(bars[rank]));
  });
}

function percent(probability) {
  const value = 100 * probability;
  return value > 0 && value < 0.1 ? "< 0.1%" : `${value.toFixed(1)}%`;
}

/** Asserts that a page does not scroll horizontally. */
async function assertFits(page) {
  const [content, width] = await page.evaluate(() =>
    [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= width, `the page is ${content} pixels wide on a screen of ${width}`);
}

/** Asserts that axe finds no barrier, in light and in dark colors. */
async function assertAccessible(page, state) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    const found = violations.map(({ id, nodes }) => [id, nodes[0].html, nodes[0].failureSummary]);
    assert.deepEqual(found, [], `${state}, ${colorScheme}`);
  }
}

function parseCsv(content) {
  const rows = [[""]];
  let quoted = false;
  for (let i = 0; i < content.length; i += 1) {
    const row = rows.at(-1);
    if (quoted && content[i] === '"' && content[i + 1] === '"') row[row.length - 1] += content[i += 1];
    else if (content[i] === '"') quoted = !quoted;
    else if (!quoted && content[i] === ",") row.push("");
    else if (!quoted && content[i] === "\n") rows.push([""]);
    else row[row.length - 1] += content[i];
  }
  assert.deepEqual(rows.pop(), [""], "the last line ends");
  return rows;
}

pageTest("a dropped image shows its class, its bars and the overlay", {}, async (page) => {
  await assertAccessible(page, "empty");
  await drop(page, image(0));
  const viewer = page.locator("#single .viewer");
  const [first, second] = expected[images[0]];
  assert.equal(await viewer.locator("h3").innerText(), `${first.name} ${percent(first.probability)}`);
  await status(page, `${images[0]}: ${first.name}, ${percent(first.probability)}`);
  await assertBars(viewer, expected[images[0]]);

  const map = await overlay(viewer);
  const boxes = await Promise.all([map, viewer.locator(".frame .image")].map((e) => e.boundingBox()));
  for (const side of ["x", "y", "width", "height"]) {
    assert.ok(Math.abs(boxes[0][side] - boxes[1][side]) < 1, JSON.stringify(boxes));
  }
  assert.deepEqual(await map.evaluate((e) => [e.naturalWidth, e.naturalHeight]), [224, 224]);
  assert.match(await viewer.locator(".meaning").innerText(), new RegExp(`“${first.name}”`));
  await assertAccessible(page, "one image");

  // Another class, then another method.
  const shown = () => map.getAttribute("src");
  const gradcam = await shown();
  const asked = page.waitForRequest(/explain/);
  await viewer.getByRole("radio", { name: second.name }).check();
  assert.equal(new URL((await asked).url()).searchParams.get("class"), second.name);
  await viewer.locator(".meaning").filter({ hasText: /raises? “|No region/ }).waitFor();
  await viewer.getByRole("radio", { name: first.name }).check();
  await overlay(viewer);
  assert.equal(await shown(), gradcam);
  await viewer.getByLabel("Method").selectOption("guided");
  await viewer.locator(".meaning").filter({ hasText: "Bright pixels" }).waitFor();
  assert.notEqual(await shown(), gradcam);
});

pageTest("the slider sets the opacity of the overlay", {}, async (page) => {
  await drop(page, image(1));
  const viewer = page.locator(".viewer");
  const map = await overlay(viewer);
  const looks = [];
  for (const value of ["0", "50", "100"]) {
    await viewer.getByRole("slider", { name: "Overlay" }).fill(value);
    assert.equal(await viewer.locator("output").innerText(), `${value}%`);
    assert.equal(await map.evaluate((e) => getComputedStyle(e).opacity), String(value / 100));
    looks.push((await viewer.locator(".frame").screenshot()).toString("base64"));
  }
  assert.equal(new Set(looks).size, 3);
});

const refused = [/status of 422.*predict/];

pageTest("a text file gets a message", { errors: refused }, async (page) => {
  await drop(page, text);
  await status(page, /^notes\.txt: .*is not a JPEG, PNG/);
  await page.locator("#single .error").filter({ hasText: "is not a JPEG, PNG" }).waitFor();
  assert.equal(await page.locator(".viewer").count(), 0);
  await assertAccessible(page, "a text file");
});

pageTest("ten files at once have ten rows and a CSV file", { errors: refused }, async (page) => {
  const formula = '=1+1,"x".jpg';
  const markup = "<img src=x onerror=alert(1)>.jpg";
  const files = images.slice(0, 7).map((_, index) => image(index));
  files.push(text, image(7, formula), image(8, markup));
  const sources = Object.fromEntries(files.map(({ name }) => [name, name]));
  Object.assign(sources, { [formula]: images[7], [markup]: images[8] });

  let [running, most] = [0, 0];
  const isPost = (request) => request.method() === "POST";
  page.on("request", (request) => { if (isPost(request)) most = Math.max(most, running += 1); });
  page.on("requestfinished", (request) => { if (isPost(request)) running -= 1; });
  await drop(page, ...files);
  await status(page, "9 images classified, 1 error");
  assert.ok(most > 1 && most <= 4, `${most} requests at a time`);

  const rows = page.locator("#rows .row:visible");
  assert.equal(await rows.count(), 10);
  for (const [index, { name }] of files.entries()) {
    const row = rows.nth(index);
    assert.equal(await row.getByRole("rowheader").innerText(), name);
    if (name === text.name) {
      assert.match(await row.locator(".class.error").innerText(), /is not a JPEG, PNG/);
    } else {
      const [{ name: label, probability }] = expected[sources[name]];
      assert.equal(await row.locator(".class").innerText(), label);
      assert.equal(await row.locator(".probability").innerText(), percent(probability));
    }
  }

  await rows.nth(2).getByRole("button").click();
  await rows.nth(4).locator(".class").click();
  const viewers = page.locator("#rows .viewer:visible");
  assert.equal(await viewers.count(), 2);
  await assertBars(viewers.first(), expected[images[2]]);
  await assertBars(viewers.last(), expected[images[4]]);
  await overlay(viewers.first());
  await overlay(viewers.last());
  await assertAccessible(page, "ten files");
  await rows.nth(2).getByRole("button").click();
  assert.equal(await viewers.count(), 1);

  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download CSV" }).click();
  assert.equal((await download).suggestedFilename(), "predictions.csv");
  const csv = parseCsv(readFileSync(await (await download).path(), "utf8"));
  assert.deepEqual(csv.shift(), ["path", "rank", "class", "probability", "error"]);
  for (const { name } of files) {
    const path = name === formula ? `'${formula}` : name;
    if (name === text.name) {
      const row = csv.shift();
      assert.deepEqual(row.slice(0, 4), [path, "", "", ""]);
      assert.match(row[4], /is not a JPEG, PNG/);
      continue;
    }
    for (const [index, { name: label, probability }] of expected[sources[name]].entries()) {
      const row = csv.shift();
      assert.deepEqual([...row.slice(0, 3), row[4]], [path, String(index + 1), label, ""]);
      // In a batch with others, an image may have slightly different probabilities than alone.
      assert.ok(Math.abs(Number(row[3]) - probability) < 1e-6, `${row}`);
    }
  }
  assert.deepEqual(csv, []);
});

pageTest("the keyboard is enough", {}, async (page) => {
  /** Presses Tab until an element has the focus; each element on the way has a visible focus. */
  const tabTo = async (role, name) => {
    for (let presses = 0; presses < 20; presses += 1) {
      await page.keyboard.press("Tab");
      const focus = page.locator(":focus");
      const ring = await focus.evaluate((e) => {
        const shown = [e, e.closest(".bar")].filter(Boolean).map((x) => getComputedStyle(x));
        return shown.some((style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2);
      });
      assert.ok(ring, await focus.evaluate((e) => `the focus of ${e.outerHTML} is not visible`));
      if (await page.getByRole(role, { name }).and(focus).count() > 0) return focus;
    }
    throw new Error(`Tab does not reach the ${role} ${name}`);
  };
  const choose = async (key, index) => {
    await tabTo("button", "Choose images");
    const chooser = page.waitForEvent("filechooser");
    await page.keyboard.press(key);
    assert.ok((await chooser).isMultiple());
    await (await chooser).setFiles(join(folder, images[index]));
  };
  await choose("Enter", 0);
  const viewer = page.locator(".viewer:visible");
  const map = await overlay(viewer);
  const slider = await tabTo("slider", "Overlay");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  assert.equal(await slider.inputValue(), "60");
  assert.equal(await map.evaluate((e) => getComputedStyle(e).opacity), "0.6");
  const [first, second] = expected[images[0]];
  await tabTo("radio", first.name);
  await page.keyboard.press("ArrowDown");
  assert.ok(await viewer.getByRole("radio", { name: second.name }).isChecked());
  await page.keyboard.press("ArrowUp");
  const method = await tabTo("combobox", "Method");
  await page.keyboard.type("Guided B");
  assert.equal(await method.inputValue(), "guided");
  await viewer.locator(".meaning").filter({ hasText: "Bright pixels" }).waitFor();

  // A second image: both are rows then.
  await page.reload();
  await choose("Enter", 0);
  await overlay(viewer);
  await page.keyboard.press("Shift+Tab");
  await choose("Space", 1);
  await status(page, "2 images classified");
  const row = await tabTo("button", images[0]);
  assert.equal(await row.getAttribute("aria-expanded"), "false");
  await page.keyboard.press("Enter");
  assert.equal(await row.getAttribute("aria-expanded"), "true");
  const detail = page.locator(`[id="${await row.getAttribute("aria-controls")}"]`);
  await assertBars(detail, expected[images[0]]);
  await page.keyboard.press("Space");
  assert.equal(await row.getAttribute("aria-expanded"), "false");
  assert.ok(await detail.isHidden());
});

const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, colorScheme: "dark", errors: refused };

pageTest("the page fits a phone in dark mode", phone, async (page) => {
  const [ground, color] = await page.evaluate(() => {
    const { backgroundColor, color: text } = getComputedStyle(document.body);
    return [backgroundColor, text].map((rgb) => rgb.match(/\d+/g).reduce((sum, n) => sum + Number(n), 0));
  });
  assert.ok(ground < 150 && color > 600, "light text on a dark ground");
  await assertFits(page);

  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Use the camera" }).tap();
  assert.equal(await (await chooser).element().getAttribute("capture"), "environment");
  await (await chooser).setFiles(join(folder, images[0]));
  await overlay(page.locator(".viewer"));
  await assertFits(page);

  await drop(page, image(1, `${"long".repeat(40)}.jpg`), text, image(2));
  await status(page, "3 images classified, 1 error");
  for (const button of await page.locator(".row .name button").all()) {
    if (await button.getAttribute("aria-expanded") === "false") await button.tap();
  }
  assert.equal(await page.locator(".viewer:visible").count(), 3);
  await assertFits(page);
  await page.setViewportSize({ width: 320, height: 640 });
  await assertFits(page);
});

pageTest("a pasted image, and one that the browser cannot display", {}, async (page) => {
  const clipboardData = await transfer(page, [pnm]);
  await page.evaluate((data) => {
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
  }, clipboardData);
  await status(page, /^small\.ppm: \w+, /);
  await page.locator(".viewer").getByRole("img", { name: "No preview" }).waitFor();
});

pageTest("images are released when they are removed", {}, async (page) => {
  await page.evaluate(() => {
    globalThis.urls = new Set();
    const { createObjectURL, revokeObjectURL } = URL;
    URL.createObjectURL = (blob) => {
      const made = createObjectURL.call(URL, blob);
      globalThis.urls.add(made);
      return made;
    };
    URL.revokeObjectURL = (old) => {
      globalThis.urls.delete(old);
      revokeObjectURL.call(URL, old);
    };
  });
  await drop(page, image(0), image(1));
  await status(page, "2 images classified");
  assert.equal(await page.evaluate(() => globalThis.urls.size), 2);
  await page.getByRole("button", { name: "Remove all" }).click();
  assert.equal(await page.evaluate(() => globalThis.urls.size), 0);
  assert.ok(await page.locator("#results").isHidden());
  assert.equal(await page.locator(":focus").innerText(), "Choose images");
});

pageTest("a busy server is asked again", { errors: [/status of 503/] }, async (page) => {
  let times = 0;
  await page.route(/predict/, (route) => {
    times += 1;
    if (times > 2) return route.continue();
    const headers = { "Retry-After": "1" };
    return route.fulfill({ status: 503, headers, json: { error: "the queue is full" } });
  });
  await drop(page, image(0));
  await status(page, "The server is busy. Trying again in 1 s.");
  await status(page, expected[images[0]][0].name);
  assert.equal(times, 3);
});

pageTest("a map without positive evidence says so", {}, async (page) => {
  await page.route(/explain/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ json: { ...await response.json(), positive_evidence: false, max: 0 } });
  });
  await drop(page, image(0));
  await page.locator(".meaning").filter({ hasText: "No region raises this class" }).waitFor();
  assert.ok(await page.locator(".overlay").isHidden());
});

/** Loads a page again with other values in `/info`. */
async function reload(page, values) {
  await page.route(/info/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ json: { ...await response.json(), ...values } });
  });
  await page.reload();
  await page.locator("#facts dd").first().waitFor();
}

pageTest("an image is displayed in the orientation that the network sees", {}, async (page) => {
  for (const [value, style] of [["apply", "from-image"], ["ignore", "none"]]) {
    await reload(page, { exif_orientation: value });
    await drop(page, image(0));
    const shown = page.locator(".frame .image");
    await shown.waitFor();
    assert.equal(await shown.evaluate((e) => getComputedStyle(e).imageOrientation), style);
  }
});

pageTest("the overlay lies over the part of the image that the network sees", {}, async (page) => {
  await reload(page, { resize_crop: 256 });
  await drop(page, image(0));
  const overlay = page.locator(".overlay");
  await overlay.waitFor();
  const [part, whole] = [await overlay.boundingBox(), await page.locator(".frame .image").boundingBox()];
  const side = Math.min(whole.width, whole.height) * 224 / 256;
  const near = (found, expected) => assert.ok(Math.abs(found - expected) < 1, `${found}, ${expected}`);
  near(part.width, side);
  near(part.height, side);
  near(part.x - whole.x, (whole.width - side) / 2);
  near(part.y - whole.y, (whole.height - side) / 2);
});

pageTest("any class of many can be explained", { errors: [/status of 400.*explain/] }, async (page) => {
  await reload(page, { classes: [...Object.values(expected)[0].map(({ name }) => name), "lilies"] });
  await drop(page, image(0));
  const asked = page.waitForRequest(/class=lilies/);
  await page.getByLabel("Another class").selectOption("lilies");
  await asked;
  assert.equal(await page.getByRole("radio", { checked: true }).count(), 0);
});

pageTest("a file above the limit is not sent", {}, async (page) => {
  await reload(page, { max_body: 1000 });
  page.on("request", (request) => assert.equal(request.method(), "GET"));
  await drop(page, image(0));
  await status(page, /The file has .* the server accepts up to /);
});

// The last test, because it stops the server.
pageTest("a server that has stopped is reported", { errors: [/ERR_CONNECTION_REFUSED/] }, async (page) => {
  await drop(page, image(0));
  await overlay(page.locator(".viewer"));
  process.kill(Number(pid), "SIGTERM");
  await assert.doesNotReject(async () => {
    for (let tries = 0; tries < 100; tries += 1) {
      const isDown = await fetch(url).then(() => false, () => true);
      if (isDown) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error("the server does not stop");
  });
  // The server still answers on open connections for half a second.
  await new Promise((resolve) => setTimeout(resolve, 2000));
  await drop(page, image(1));
  await page.locator(".row .class").filter({ hasText: "The server does not answer." }).waitFor();
  await status(page, "1 image classified, 1 error");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("button", { name: "Try again" }).waitFor();
});
