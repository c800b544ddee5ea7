package location

import "testing"

func TestAddressesThatWereCutInsideThePassword(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"redis://h":                      false,
		"redis://u:p@h:6379/0?addr=x:1":  false,
		"redis://u:p@ss@h/0":             false,
		"redis://u:12?ret@h/0":           true,
		"redis://u:12#ret@h/0":           true,
		"redis://u:12/ret@h/0":           true,
		"redis://u:p@h/0?client_name=a@": true,
		"redis:u/p@h":                    true,
		"":                               false,
	} {
		if got := Torn(url); got != want {
			t.Errorf("%s: %t", url, got)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "db-1.example_x": true, "10.0.0.1": true, "::1": true, "fe80::1%eth0": true,
		"": false, "app:Secret": false, "h,password=p": false, "h;d": false, ")u&rI5]Fl|1)q~5": false, "[::1]": false, "sécret": false,
	} {
		if got := ValidHost(host); got != want {
			t.Errorf("%q: %t", host, got)
		}
	}
}
