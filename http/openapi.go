package httpapi

import (
	_ "embed" // the document is part of the program
	"net/http"
)

//go:embed openapi.yaml
var openAPI []byte

// OpenAPI returns the document that describes this API.
func OpenAPI() []byte { return append([]byte(nil), openAPI...) }

func getOpenAPI(_ *Handler, w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openAPI) // the caller is gone if this fails
}
