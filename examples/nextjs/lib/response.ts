/** What went wrong, in the words of the response. */
export async function failure(response: Response): Promise<string> {
	const body = await response.json().catch(() => null);
	return body?.message ?? body?.error ?? (response.statusText || `HTTP ${response.status}`);
}
