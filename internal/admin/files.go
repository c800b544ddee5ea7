package admin

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed dashboard
var dashboard embed.FS

// file is a file of the dashboard.
type file struct {
	content   []byte
	mediaType string
	etag      string
}

// files are those of the dashboard, by name. The name of the page is empty.
var files = readFiles()

func readFiles() map[string]file {
	all := make(map[string]file)
	err := fs.WalkDir(dashboard, "dashboard", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := dashboard.ReadFile(name)
		if err != nil {
			return err
		}
		digest := sha256.Sum256(content)
		f := file{content: content, mediaType: mediaTypes[path.Ext(name)], etag: `"` + hex.EncodeToString(digest[:8]) + `"`}
		if name = path.Base(name); name == "index.html" {
			name = ""
		}
		all[name] = f
		return nil
	})
	if err != nil {
		panic(err) // the files are embedded
	}
	return all
}

// mediaTypes are those of the files, by extension. Package mime depends on the
// system.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".txt": "text/plain; charset=utf-8",
}

func (f file) serve(_ *Panel, w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", f.mediaType)
	w.Header().Set("Cache-Control", "no-cache") // the browser must revalidate
	w.Header().Set("ETag", f.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
	return nil
}
