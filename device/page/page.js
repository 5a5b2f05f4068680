// What the page shows, and what its buttons do. Texts from the box go in as text, never as HTML.

import { NotLoggedIn, api } from "./api.js";
import { followUpdates, showUpdate } from "./updates.js";
import { $, act, element, onLogout, percent, plural, say } from "./parts.js";

let events = null;
let liveView = true;

// ---- Login

function showLogin() {
  events?.close();
  events = null;
  stopWatching();
  $("box").hidden = true;
  $("login").hidden = false;
  $("password").focus();
}

onLogout(showLogin);

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.submitter, async () => {
    await api.logIn($("user").value, $("password").value);
    $("password").value = "";
    await showBox();
  });
});

$("log-out").addEventListener("click", (event) => act(event.target, async () => {
  await api.logOut();
  showLogin();
}));

async function showBox() {
  const info = await api.info();
  $("login").hidden = true;
  $("box").hidden = false;
  const admin = info.role === "admin";
  document.querySelectorAll(".for-admin").forEach((part) => { part.hidden = !admin; });
  liveView = info.live_view;
  $("watch").hidden = !liveView;
  $("about").textContent =
    `fmlora-edge ${info.version} · ${info.network} on ${info.device} · no picture is kept`;
  showSource(info.source);
  showStorage(info.state_trouble);
  showTraining(info.training);
  await showClasses();
  showUpdate(await api.update());
  if (admin) await showTokens();
  listen();
}

// ---- What the camera shows

function listen() {
  events?.close();
  events = new EventSource("api/v1/events");
  const on = (name, show) => events.addEventListener(name, (e) => show(JSON.parse(e.data)));
  on("prediction", showAnswer);
  on("source", showSource);
  on("storage", ({ trouble }) => showStorage(trouble));
  on("classes", () => showClasses().catch((error) => say(error.message)));
  on("update", showUpdate);
  on("shot", ({ shot, of }) => showProgress(shot / of));
  on("training", showTraining);
  on("trained", showTrained);
  events.onerror = () => {
    $("camera").className = "state bad";
    $("camera").textContent = "the box does not answer";
    // Whether it is away or the login has ended, the next request tells.
    api.info().then((info) => {
      showSource(info.source);
      showTraining(info.training);
    }).catch((error) => {
      if (error instanceof NotLoggedIn) showLogin();
    });
  };
}

function showSource({ open, trouble }) {
  $("camera").className = open ? "state well" : "state bad";
  $("camera").textContent = open ? "the camera works" : `no picture: ${trouble || "not open yet"}`;
}

function showStorage(trouble) {
  $("storage").textContent = `Nothing can be taught or updated now: ${trouble}`;
  $("storage").hidden = !trouble;
}

function showAnswer({ class: name, confidence, unknown }) {
  const known = name !== null && !unknown;
  $("answer").textContent = known ? name : "nothing I know";
  $("confidence").style.width = `${100 * (known ? confidence : 0)}%`;
  $("answer-hint").textContent = known
    ? `${percent(confidence)} sure`
    : name === null ? "Teach me something." : `The nearest is ${name}.`;
}

function stopWatching() {
  $("live").removeAttribute("src");
  $("live").hidden = true;
  $("watch").textContent = "Show the picture";
}

$("watch").addEventListener("click", () => {
  if (!$("live").hidden) return stopWatching();
  $("live").src = "api/v1/live.mjpg";
  $("live").hidden = false;
  $("watch").textContent = "Hide the picture";
});
$("live").addEventListener("error", () => {
  if (!$("live").hidden) {
    stopWatching();
    say("The picture cannot be shown now.");
  }
});

// ---- Teaching

function showProgress(share) {
  if (share === 0) $("advice").textContent = "";
  $("progress").hidden = share >= 1;
  $("progress").value = share;
}

function showTaught({ class: name, added, shots, estimate }) {
  const enough = estimate
    ? `I expect to be right in ${percent(estimate.accuracy)} of pictures like these, and in about ` +
      `${percent(estimate.another_day)} on another day. Advice: ${estimate.advice}.`
    : "Teach me a second thing, so that I can tell one from the other.";
  $("advice").textContent = `${name}: ${plural(added, "picture")} learned, ${shots} in all. ${enough}`;
}

$("count").addEventListener("input", () => { $("count-shown").textContent = $("count").value; });

$("teach-form").addEventListener("submit", (event) => {
  event.preventDefault();
  act($("show"), async () => {
    showProgress(0);
    try {
      showTaught(await api.showToCamera($("name").value.trim(), Number($("count").value)));
    } finally {
      showProgress(1);
    }
  });
});

$("choose").addEventListener("click", () => {
  if ($("name").reportValidity()) $("files").click();
});

$("files").addEventListener("change", () => act($("choose"), async () => {
  const files = [...$("files").files];
  const [name, refused] = [$("name").value.trim(), []];
  let taught = null;
  try {
    for (const [i, file] of files.entries()) {
      showProgress(i / files.length);
      try {
        taught = await api.teach(name, file);
      } catch (error) {
        if (error instanceof NotLoggedIn) throw error;
        refused.push(`${file.name}: ${error.message}`);
      }
    }
  } finally {
    showProgress(1);
    $("files").value = "";
  }
  if (taught) showTaught({ ...taught, added: files.length - refused.length });
  if (refused.length) say(`${plural(refused.length, "picture")} left out. ${refused[0]}`);
}));

// What systems leave in folders.
const isHidden = (name) => /^(\..*|thumbs\.db|ehthumbs\.db|desktop\.ini|__macosx)$/i.test(name);

$("learn").addEventListener("click", () => $("folder").click());

$("folder").addEventListener("change", () => act($("learn"), async () => {
  const [form, leftOut] = [new FormData(), []];
  for (const file of $("folder").files) {
    const folders = file.webkitRelativePath.split("/");
    // The chosen folder, the thing, folders below it, the file.
    if (folders.length < 3 || folders.some(isHidden)) continue;
    // What says of itself that it is something else is not sent; the box looks at the rest.
    if (/^(?!image\/|$)/.test(file.type)) leftOut.push(`${file.name}: not a picture`);
    else form.append(folders[1], file);
  }
  $("folder").value = "";
  if ([...form.keys()].length === 0) {
    throw new Error("I found no pictures. Expected: a folder with one folder of pictures for each thing.");
  }
  $("learned").textContent = "Looking at the pictures …";
  try {
    const told = await api.learn(form);
    const training = told.training ? " I go on learning from them, and answer already." : "";
    $("learned").textContent = `${plural(told.classes.length, "thing")} learned from ` +
      `${plural(told.shots, "picture")} in ${told.answered_seconds.toFixed(1)} s.${training}`;
    leftOut.push(...told.left_out.map(({ path, reason }) => `${path}: ${reason}`));
    if (leftOut.length) say(`${plural(leftOut.length, "file")} left out. ${leftOut[0]}`);
  } catch (error) {
    $("learned").textContent = "";
    throw error;
  }
}));

// A training that goes on behind; null without one.
function showTraining(progress) {
  $("training").hidden = !progress;
  if (!progress) return;
  const steps = progress.of ? `: ${progress.step} of ${progress.of} steps` : "";
  $("training").textContent = `I am still learning${steps}. I answer already.`;
}

const endsOfTraining = {
  kept: "I went on learning from the last pictures, and it made me better.",
  not_better: "I went on learning from the last pictures. It made nothing better, and I left it.",
  overtaken: "I stopped learning from the pictures before: what was done meanwhile counts.",
  ended: "I stopped learning from the last pictures. I know them without.",
};

function showTrained({ training, trouble }) {
  const failed = `I could not go on learning from the last pictures: ${trouble}. I know them without.`;
  const text = trouble ? failed : endsOfTraining[training] || "";
  $("training").textContent = text;
  $("training").hidden = !text;
}

// ---- What is known

async function showClasses() {
  const { classes, estimate, undo } = await api.classes();
  $("nothing").hidden = classes.length > 0;
  $("names").replaceChildren(...classes.map(({ name }) => element("option", "", { value: name })));
  $("classes").replaceChildren(...classes.map((known) => classItem(known, estimate)));
  $("undo").hidden = undo.length === 0;
  $("undo").textContent = `Take back: ${undo[0]}`;
}

function classItem({ name, shots }, estimate) {
  const share = estimate?.per_class_another_day[name];
  const rate = share === null || share === undefined ? "" : ` · right in about ${percent(share)} on another day`;
  const item = element("li", "");
  const text = element("span", `${name} `);
  text.append(element("small", `${plural(shots, "picture")}${rate}`, { className: "hint" }));
  const rename = element("button", "Rename");
  rename.addEventListener("click", () => {
    const to = prompt(`Another name for ${name}:`, name);
    if (to && to !== name) act(rename, () => api.rename(name, to));
  });
  const forget = element("button", "Forget");
  forget.addEventListener("click", () => {
    if (confirm(`Forget ${name}, as if I had never seen it?`)) act(forget, () => api.forget(name));
  });
  item.append(text);
  if (!$("undo").closest(".for-admin").hidden) item.append(rename, forget);
  return item;
}

$("undo").addEventListener("click", (event) => act(event.target, () => api.undo()));

// ---- Asking

$("ask").addEventListener("click", () => $("asked").click());
$("asked").addEventListener("change", () => act($("ask"), async () => {
  const [file] = $("asked").files;
  $("asked").value = "";
  const { top, unknown } = await api.classify(file);
  // How sure it is among things that it is probably none of says nothing.
  const lines = unknown
    ? [top.length ? `Probably nothing I know. The nearest is ${top[0].class}.` : "I know nothing yet."]
    : top.map((guess) => `${guess.class}: ${percent(guess.confidence)}`);
  $("guesses").replaceChildren(...lines.map((line) => element("li", line)));
}));

// ---- Who may use the box

async function showTokens() {
  const tokens = await api.tokens();
  $("tokens").replaceChildren(...tokens.map(({ id, name, role }) => {
    const item = element("li", "");
    item.append(element("span", `${name} (${role})`));
    if (id === undefined) {
      item.append(element("small", "set by the configuration", { className: "hint" }));
      return item;
    }
    const remove = element("button", "Take back");
    remove.addEventListener("click", () => act(remove, async () => {
      await api.removeToken(id);
      await showTokens();
    }));
    item.append(remove);
    return item;
  }));
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.submitter, async () => {
    const { token, role } = await api.addToken($("token-name").value, $("token-role").value);
    $("token-name").value = "";
    const address = new URL(`api/v1/snapshot.jpg?token=${token}`, document.baseURI);
    const use = role === "pictures" ? ` For a client of cameras: ${address} (or live.mjpg).` : "";
    $("token").textContent = `${token} – write it down, it is told this once.${use}`;
    await showTokens();
  });
});

$("password-form").addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.submitter, async () => {
    const role = $("password-role").value;
    await api.setPassword(role, $("new-password").value);
    $("new-password").value = "";
    say(`The ${role} has a new password.`);
  });
});

followUpdates();
showBox().catch((error) => {
  showLogin();
  if (!(error instanceof NotLoggedIn)) say(error.message);
});
