// What an identity needs for /management/models: a region's models are read at the subscription.
targetScope = 'subscription'

@description('The object id of the identity.')
param principalId string

// Reader
var reader = 'acdd72a7-3385-48ef-bd42-f606fba81ae7'

resource listModels 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subscription().id, principalId, reader)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', reader)
  }
}
