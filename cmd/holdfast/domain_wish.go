package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

func newDomainActivateCommand(g *global) *cobra.Command {
	return newDomainWishCommand(g, &cobra.Command{
		Use: "activate ID|NAME", Short: "Take a domain back into use, or have every host try again to reach it",
		Long: `Take a domain that is in maintenance back into use: hosts open its LUNs and join its lockspace. Returns when hosts reach it.

Of a domain that is inactive, every host is asked to open its paths and look again at once, instead of after the pause that it
would make by itself. An active domain stays as it is.`,
		Example: "  holdfast domain activate san2",
	}, (*client.Client).ActivateDomain)
}

func newDomainDeactivateCommand(g *global) *cobra.Command {
	return newDomainWishCommand(g, &cobra.Command{
		Use: "deactivate ID|NAME", Short: "Take a domain out of use: nothing new begins on it, and hosts let go of it",
		Long: `Take a domain out of use, for work on its LUNs. Nothing new begins on it, every host leaves its lockspace and closes its LUNs, and then
it is in maintenance; until then it is preparing_maintenance, and holdfast domain show says which host it waits for.

Refused while volumes of the domain are attached or its leases are held; the refusal names them. The master is refused too: make
another domain the master first (holdfast domain set-master). Volumes keep their data and are listed as before.`,
		Example: "  holdfast domain deactivate san2 --reason \"firmware of the array\"",
	}, (*client.Client).DeactivateDomain)
}

// newDomainWishCommand completes a verb that wants something of a domain.
func newDomainWishCommand(g *global, cmd *cobra.Command,
	ask func(*client.Client, context.Context, string, api.DomainWish) (api.Domain, error)) *cobra.Command {
	req := api.DomainWish{}
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := g.client()
		if err != nil {
			return err
		}
		defer c.Close()
		d, err := ask(c, cmd.Context(), args[0], req)
		if err != nil {
			return err
		}
		return g.show(cmd, d, func() *table { return domainFields(d) })
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; it is kept with the domain and in the history")
	return cmd
}
