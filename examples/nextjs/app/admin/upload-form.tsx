"use client";

import { useState } from "react";
import { failure } from "@/lib/response";

export function UploadForm() {
	const [result, setResult] = useState("");

	async function upload(event: React.FormEvent<HTMLFormElement>) {
		event.preventDefault();
		const response = await fetch("/api/upload", { method: "POST", body: new FormData(event.currentTarget) });
		setResult(response.ok ? `Saved ${(await response.json()).name}` : await failure(response));
	}

	return (
		<form onSubmit={upload}>
			<label>
				File <input name="file" type="file" required />
			</label>
			<button>Upload</button>
			<p data-testid="upload-result">{result}</p>
		</form>
	);
}
