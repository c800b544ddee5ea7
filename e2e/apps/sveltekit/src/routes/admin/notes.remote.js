// Remote functions have a path of their own, so they look after themselves.

import { command, form, getRequestEvent, query } from "$app/server";
import { error } from "@sveltejs/kit";
import { notes, saveNote } from "../../../../people.mjs";

function required() {
	const { user } = getRequestEvent().locals;
	if (!user) error(403, "Forbidden");
	return user;
}

const save = (note) => saveNote(required().id, note);

export const count = query(async () => {
	required();
	return (await notes()).length;
});

export const saveByForm = form("unchecked", ({ note }) => save(note));

export const saveByCommand = command("unchecked", save);
