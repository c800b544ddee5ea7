"use client";

import { useState } from "react";
import { failure } from "@/lib/response";

export function TitleForm({ title }: { title?: string }) {
	const [result, setResult] = useState("");

	async function saveByFetch(form: HTMLFormElement) {
		const response = await fetch("/api/site-customization", {
			method: "POST",
			headers: { "Content-Type": "application/json" },
			body: JSON.stringify({ title: new FormData(form).get("title") }),
		});
		setResult(response.ok ? `Saved ${(await response.json()).title}` : await failure(response));
	}

	return (
		<form method="post" action="/api/site-customization">
			<label>
				Title <input name="title" defaultValue={title} required />
			</label>
			<button>Save title</button>
			<button type="button" onClick={(event) => saveByFetch(event.currentTarget.form!)}>
				Save title by fetch
			</button>
			<p data-testid="customization-result">{result}</p>
		</form>
	);
}
