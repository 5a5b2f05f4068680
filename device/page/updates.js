// Updates in plain words: where they come from, what is in use, what was refused and why.

import { Conflict, api } from "./api.js";
import { $, act, element, plural } from "./parts.js";

// Until when the last one is on trial; null while none is, or its time stands still.
let trialEnds = null;

const moment = (text) => new Date(text).toLocaleString();

function stateText(update) {
  const { phase, why, from, last_look: look } = update;
  const open = look?.adapters.some((adapter) => adapter.not_for_us === null);
  if (phase === "trial" && update.trial_waits) {
    return "An update is being tried out: it waits for the camera.";
  }
  if (phase === "trial") {
    const left = Math.round((trialEnds - Date.now()) / 1000);
    const wait = left > 0 ? `${plural(left, "second")} more` : "a moment more";
    return `An update is being tried out: ${wait}. If the box does not work with it, it is taken back by itself.`;
  }
  if (!from) return "No updates are set up for this box.";
  if (look?.error) return "I could not look for updates. The box works on with what it has.";
  if (open) return update.automatic ? "An update is there, and will be installed." : "An update is there.";
  if (phase === "rolled_back") return `The last update is not in use: ${why}.`;
  return look ? "The box has the newest there is for it." : "I have not looked for updates yet.";
}

function fromText({ from, automatic, poll_seconds: seconds, last_look: look }) {
  if (!from) {
    return "Whoever runs this box can name a place for updates: [update] in its configuration. Everything else works without.";
  }
  const often = seconds === 0 ? "when you press the button" : seconds < 120
    ? `every ${plural(seconds, "second")}` : seconds < 5400
    ? `about every ${plural(Math.round(seconds / 60), "minute")}` : `about every ${plural(Math.round(seconds / 3600), "hour")}`;
  const then = automatic && seconds > 0 ? "What I find is installed by itself." : "Nothing is installed until you say so.";
  const last = look ? ` Last looked: ${moment(look.at)}.` : "";
  return `From ${from}. I look ${often}. ${then}${last}`;
}

export function showUpdate(update) {
  const left = update.trial_seconds_left;
  const runs = update.phase === "trial" && !update.trial_waits;
  trialEnds = runs ? Date.now() + 1000 * (left ?? 0) : null;
  showUpdate.last = update;
  $("update-state").textContent = stateText(update);
  const trouble = update.last_look?.error ?? update.trouble;
  $("update-trouble").textContent = trouble ?? "";
  $("update-trouble").hidden = !trouble;
  $("update-from").textContent = fromText(update);
  $("update-used").replaceChildren(...update.in_use.map(({ name, release, since, withdrawn }) => {
    const item = element("li", "");
    const text = element("span", `${name}, release ${release} `);
    const used = since ? `in use since ${moment(since)}` : "in use";
    const ordered = withdrawn === null ? "" : `, withdrawn by its publisher${withdrawn && `: ${withdrawn}`}`;
    text.append(element("small", used + ordered, { className: "hint" }));
    item.append(text);
    return item;
  }));
  const open = update.last_look?.adapters.some((adapter) => adapter.not_for_us === null)
    || update.in_use.some(({ withdrawn }) => withdrawn !== null);
  $("update-look").hidden = !update.from;
  $("update-install").hidden = !update.from || !open || update.phase === "trial";
  $("update-back").hidden = !update.can_roll_back;
  const line = (target, why) => {
    const item = element("li", "");
    const text = element("span", `${target} `);
    text.append(element("small", why, { className: "hint" }));
    item.append(text);
    return item;
  };
  const used = new Set(update.in_use.map(({ target }) => target));
  const others = (update.last_look?.adapters ?? [])
    .filter(({ target, not_for_us: why }) => why !== null && !used.has(target));
  const seen = new Set(others.map(({ target }) => target));
  const gone = update.quarantine.filter(({ target }) => !seen.has(target));
  $("update-others").replaceChildren(
    ...others.map(({ target, not_for_us: why, quarantined }) => {
      const item = line(target, quarantined ? why : `not for now: ${why}`);
      if (quarantined && update.phase !== "trial") item.append(againButton(target));
      return item;
    }),
    ...gone.map(({ target, why }) => line(target, `refused: ${why}`)),
  );
  $("update-more").hidden = others.length + gone.length === 0;
}

// Tries this one, which was refused or taken back, once more.
function againButton(target) {
  const button = element("button", "Try again");
  button.hidden = $("update-buttons").hidden;
  button.addEventListener("click", () => act(button, () => install({ again: target })));
  return button;
}

async function install(order) {
  try {
    showUpdate(await insisted((more) => api.applyUpdate({ ...order, ...more })));
  } catch (error) {
    showUpdate(await api.update());
    throw error;
  }
}

// Sends an order; where things that were taught here would be lost, only a second, explicit yes sends it so.
async function insisted(send) {
  try {
    return await send({});
  } catch (error) {
    const loses = error instanceof Conflict && error.message.includes("lose_classes");
    if (!loses || !confirm(`${error.message}.\n\nDo it, and lose them?`)) throw error;
    return send({ lose_classes: true });
  }
}

export function followUpdates() {
  $("update-look").addEventListener("click", (event) => act(event.target, async () => {
    try {
      showUpdate(await api.checkUpdate());
    } catch (error) {
      showUpdate(await api.update());
      throw error;
    }
  }));
  $("update-install").addEventListener("click", (event) => act(event.target, () => install({})));
  $("update-back").addEventListener("click", (event) => act(event.target, async () => {
    if (!confirm("Go back to what was there before the last update? What was taught since stays.")) return;
    showUpdate(await insisted(api.rollBackUpdate));
  }));
  // A trial runs, and its seconds with it.
  setInterval(() => {
    if (trialEnds !== null) $("update-state").textContent = stateText(showUpdate.last);
  }, 1000);
}
