// What people do in a browser, and what they see.

import assert from "node:assert/strict";

export const ada = "ada@example.com";
export const sessionRequired = "Please sign in to access this page.";
export const staleSession = "Your session is no longer valid. Please sign in again.";

const picture = { name: "picture.png", mimeType: "image/png", buffer: Buffer.from("a picture") };

/** Returns a page in a new browser, where a person has signed in and opened /admin. */
export async function signedIn(test, stack, email) {
	const page = await stack.visit(test);
	await page.goto("/admin");
	await signIn(page, email);
	await sees(page, "Admin");
	return page;
}

export async function signIn(page, email) {
	await sees(page, "Sign in");
	await fillIn(page, email);
	await page.waitForURL((url) => url.pathname !== "/auth/signin");
}

/** Submits the form of the sign-in page. */
export async function fillIn(page, email) {
	await enter(page, email);
	await click(page.getByRole("button", { name: "Sign in", exact: true }));
}

/** Writes who somebody is into the form of a sign-in page. */
export async function enter(page, email) {
	await page.getByLabel("E-mail").fill(email);
	await page.getByLabel("Password").fill("password");
}

/** Waits until a page shows a heading. */
export async function sees(page, heading) {
	try {
		await page.getByRole("heading", { name: heading, exact: true }).waitFor();
	} catch {
		const seen = await page.locator("h1, h2").allInnerTexts();
		assert.fail(`expected the page "${heading}", saw "${seen}" at ${page.url()}`);
	}
}

/** Waits until an element shows a text. */
export async function shows(locator, text) {
	try {
		await locator.filter({ hasText: text }).waitFor();
	} catch {
		assert.equal((await locator.allInnerTexts()).join(), text);
	}
}

/** Waits until a page shows the sign-in page, which says why. */
export async function isAskedToSignIn(page) {
	await sees(page, "Sign in");
	await shows(page.getByRole("main").getByRole("alert"), sessionRequired);
}

// Before React hydrates a button, a click submits a plain HTML form.
export async function click(locator) {
	await locator.page().waitForFunction((element) => Object.keys(element).some((key) => key.startsWith("__reactProps$")), await locator.elementHandle());
	await locator.click();
}

export async function upload(page) {
	await page.getByLabel("File").setInputFiles(picture);
	await click(page.getByRole("button", { name: "Upload" }));
}

export async function saveNote(page, note) {
	await page.getByLabel("Note").fill(note);
	await click(page.getByRole("button", { name: "Save note" }));
}

export async function saveTitle(page, title) {
	await page.getByLabel("Title").fill(title);
	await click(page.getByRole("button", { name: "Save title", exact: true }));
}

export async function saveTitleByFetch(page, title) {
	await page.getByLabel("Title").fill(title);
	await click(page.getByRole("button", { name: "Save title by fetch" }));
}

/** Uses everything on /admin, and expects that it works. */
export async function useEverything(page) {
	await upload(page);
	await shows(page.getByTestId("upload-result"), "Saved picture.png");
	await saveNote(page, "remember the milk");
	await shows(page.getByRole("listitem").first(), "remember the milk");
	await saveTitleByFetch(page, "By fetch");
	await shows(page.getByTestId("customization-result"), "Saved By fetch");
	await saveTitle(page, "By form");
	await shows(page.getByRole("status"), "Title saved.");
	assert.equal(await statusOf(page, "/api/admin/stats"), 200);
	await click(page.getByRole("link", { name: "Settings" }));
	await sees(page, "Settings");
	await click(page.getByRole("link", { name: "Admin" }));
	await sees(page, "Admin");
}

/** Returns the status that a fetch of the page gets. */
export function statusOf(page, path, options) {
	return page.evaluate(async ([path, options]) => (await fetch(path, options)).status, [path, options]);
}

/** Returns an array to which each full page load is added, redirects included. */
export function pageLoads(page) {
	const loads = [];
	page.on("response", (response) => {
		if (response.request().isNavigationRequest()) loads.push(`${response.status()} ${new URL(response.url()).pathname}`);
	});
	return loads;
}

/** Returns the response to the next request of a page to a path, which it has not sent yet. */
export async function responseTo(page, method, path) {
	const request = await page.waitForRequest((request) => request.method() === method && new URL(request.url()).pathname === path);
	return request.response();
}

/** Returns the session cookies of a browser. */
export async function sessionCookies(context) {
	return (await context.cookies()).filter(({ name }) => name.includes("session-token") || name === "__session");
}
