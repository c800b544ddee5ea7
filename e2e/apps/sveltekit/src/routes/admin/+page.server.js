import { notes, saveNote } from "../../../../people.mjs";

export async function load({ locals }) {
	return { name: locals.user.name, notes: await notes() };
}

export const actions = {
	async save({ locals, request }) {
		await saveNote(locals.user.id, (await request.formData()).get("note"));
	},
};
