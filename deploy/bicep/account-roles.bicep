// What an identity needs on the resource, which is there already: to call its models, and to list its deployments.

@description('The resource, in this resource group.')
param accountName string

@description('The object id of the identity.')
param principalId string

resource account 'Microsoft.CognitiveServices/accounts@2024-10-01' existing = {
  name: accountName
}

// Cognitive Services OpenAI User
var openAiUser = '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'
// Reader
var reader = 'acdd72a7-3385-48ef-bd42-f606fba81ae7'

resource callModels 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, principalId, openAiUser)
  scope: account
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', openAiUser)
  }
}

resource listDeployments 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, principalId, reader)
  scope: account
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', reader)
  }
}

output endpoint string = account.properties.endpoint
