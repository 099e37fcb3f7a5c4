// SPDX-License-Identifier: Apache-2.0
// Sends the form with its Origin, which browsers leave out of forms here (Referrer-Policy: no-referrer).
"use strict";

const form = document.querySelector("form");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = form.querySelector("[role=alert]") || document.createElement("p");
  said.className = "error";
  said.setAttribute("role", "alert");
  form.prepend(said);
  try {
    const answer = await fetch("/login", { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (answer.ok) {
      location.assign("/");
      return;
    }
    said.textContent = answer.status === 401 ? "That is not the token of this server." : `Refused (${answer.status}).`;
  } catch {
    said.textContent = "The daemon does not answer.";
  }
});
