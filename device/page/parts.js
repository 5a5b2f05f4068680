// What all parts of the page have in common.

import { NotLoggedIn } from "./api.js";

export const $ = (id) => document.getElementById(id);
export const percent = (share) => `${Math.round(100 * share)} %`;
export const plural = (n, thing) => `${n} ${thing}${n === 1 ? "" : "s"}`;

let loggedOut = () => {};

// What is done when the box asks for a login.
export function onLogout(work) {
  loggedOut = work;
}

export function say(text) {
  $("message").textContent = text;
  $("message").hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { $("message").hidden = true; }, 6000);
}

// Does something that a button asks for: the button rests meanwhile, and what fails is said.
export async function act(button, work) {
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    if (error instanceof NotLoggedIn) loggedOut();
    say(error.message);
  } finally {
    button.disabled = false;
  }
}

export function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  Object.assign(made, attributes);
  return made;
}
