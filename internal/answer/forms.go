package answer

import (
	"encoding/json"
	"net/http"

	"github.com/seed-4adef13c/caddy-stale-session/internal/door"
)

// form is the answer to a stale session that the client of a framework follows to
// the sign-in page, or at least reports as what it is.
type form struct {
	status int                             // 401 by default
	header func(signIn string) [][2]string // nil for no fields
	body   func(signIn string) fields      // besides those of every answer; nil for none
	empty  bool                            // there is no body
}

// fields are members of a JSON object.
type fields map[string]any

// forms has the form for each door that has one of its own; all others get the 401
// in JSON. Each was seen to work in the unmodified client (SolidStart's was read),
// where a redirect, or another status, ends in an error page or in the HTML of the
// sign-in page as data.
var forms = map[door.Door]form{
	// next 14.2, 15.5 and 16.4 navigate to this address whatever the status is
	// (client/components/router-reducer/reducers/server-action-reducer.js).
	door.NextAction: {header: func(signIn string) [][2]string {
		return [][2]string{{"X-Action-Redirect", signIn}}
	}},
	door.KitAction: {body: kitRedirect},
	door.KitData:   {status: http.StatusOK, body: kitRedirect}, // an error page with 401
	// kit 2.30 to 2.63 read type and location, 2.66 to 3.2 read data but for live
	// queries. A command may not redirect.
	door.KitRemote: {status: http.StatusOK, body: func(signIn string) fields {
		data, _ := json.Marshal([]any{map[string]int{"redirect": 1}, signIn}) // devalue's format
		all := kitRedirect(signIn)
		all["data"] = string(data)
		return all
	}},
	door.RouterData: {status: http.StatusNoContent, empty: true, header: func(signIn string) [][2]string {
		return [][2]string{{"X-Remix-Redirect", signIn}, {"X-Remix-Status", "302"}, {"X-Remix-Reload-Document", "true"}}
	}},
	door.StartServer: {body: func(signIn string) fields {
		return fields{"isSerializedRedirect": true, "href": signIn, "statusCode": http.StatusTemporaryRedirect}
	}},
	door.SolidServer: {header: func(signIn string) [][2]string {
		return [][2]string{{"Location", signIn}, {"X-Error", "true"}}
	}},
	// A redirect of an Astro form would put the sign-in page into the guarded one,
	// where the form of Auth.js fails: its 401 makes the client load the page.
	door.AstroAction: {body: func(string) fields {
		return fields{"type": "AstroActionError", "code": "UNAUTHORIZED", "status": http.StatusUnauthorized}
	}},
}

func kitRedirect(signIn string) fields {
	return fields{"type": "redirect", "status": http.StatusSeeOther, "location": signIn}
}

// usualBody has the members of every answer.
type usualBody struct {
	Error   string `json:"error"`
	Message string `json:"message"`
	SignIn  string `json:"signIn"`
}

// write answers in the form, for a sign-in page at an address.
func (f form) write(w http.ResponseWriter, r *http.Request, signIn string) error {
	if f.header != nil {
		for _, field := range f.header(signIn) {
			w.Header().Set(field[0], field[1])
		}
	}
	status := f.status
	if status == 0 {
		status = http.StatusUnauthorized
	}
	if status < http.StatusMultipleChoices { // not to be taken for the app's success
		w.Header().Set("Stale-Session", "ended")
	}
	if f.empty {
		w.WriteHeader(status)
		return nil
	}
	usual := usualBody{"stale_session", message, signIn}
	var body []byte
	var err error
	if f.body == nil {
		body, err = json.Marshal(usual)
	} else {
		all := f.body(signIn)
		all["error"], all["message"], all["signIn"] = usual.Error, usual.Message, usual.SignIn
		body, err = json.Marshal(all)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, r, status, body)
}
