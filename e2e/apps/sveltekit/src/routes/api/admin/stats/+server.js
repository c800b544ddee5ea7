import { json } from "@sveltejs/kit";
import { notes } from "../../../../../../people.mjs";

export async function GET() {
	return json({ notes: (await notes()).length });
}
