package httpapi

// RouteNames lists what is served, as "METHOD path".
func RouteNames() []string {
	var l []string
	for _, r := range routes() {
		l = append(l, r.method+" "+r.path)
	}
	return l
}
