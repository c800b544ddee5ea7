// Remote functions have a path of their own, so they look after themselves.

import { command, form, getRequestEvent } from "$app/server";
import { error } from "@sveltejs/kit";
import { saveNote } from "../../../../people.mjs";

async function save(note) {
	const { user } = getRequestEvent().locals;
	if (!user) error(403, "Forbidden");
	await saveNote(user.id, note);
}

export const saveByForm = form("unchecked", ({ note }) => save(note));

export const saveByCommand = command("unchecked", save);
