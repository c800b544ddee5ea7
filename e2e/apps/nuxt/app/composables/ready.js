/** Whether the page runs in the browser yet. Before, a form would be submitted as HTML. */
export function useReady() {
	const ready = ref(false);
	onMounted(() => {
		ready.value = true;
	});
	return ready;
}
