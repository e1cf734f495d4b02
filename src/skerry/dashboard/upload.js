// A field for a file; `send` posts what was chosen to the dashboard, as it is, and answers `{row}` or `{error}`.
export default {
  template: `<input type="file" :accept="accept" />`,
  props: { accept: String },
  methods: {
    async send(url) {
      const file = this.$el.files[0];
      if (!file) return { error: "choose a file first" };
      try {
        const answer = await fetch(url, { method: "POST", body: file, headers: { "content-type": "application/octet-stream" } });
        return answer.ok ? await answer.json() : { error: await answer.text() };
      } catch (error) {
        return { error: `the file was not sent: ${error.message}` };
      }
    },
    clear() {
      this.$el.value = "";
    },
  },
};
